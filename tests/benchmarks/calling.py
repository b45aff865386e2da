"""Calls a function of this package with texts: `python -m tests.benchmarks.calling peers:freeze_v2 SOURCE TARGET`."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    module, _, name = sys.argv[1].partition(":")
    getattr(importlib.import_module(f"tests.benchmarks.{module}"), name)(*sys.argv[2:])
