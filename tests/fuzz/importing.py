"""What a target does with a model: look at it, and import it."""

from __future__ import annotations

from pathlib import Path

from tpu2gpu import import_model, inspect_model


def inspect_and_import(source: Path) -> None:
    """Look at a model, and import it to a folder beside it."""
    inspect_model(source)
    import_model(source, source.with_name("imported"), force=True)
