"""The option by which a user trusts a model."""

from __future__ import annotations

from typing import Any

from tpu2gpu.options import option

TRUST = ("files", "network", "python", "custom")
"""What can be trusted: `files` reads and writes any file, `custom` runs ops that nobody has reviewed."""


def trust_option() -> Any:
    """Declare the option that every step has which runs or writes a graph."""
    return option((), "let the model do more than compute, where you trust who made it", choices=TRUST)
