"""Run the measurement of a cast in a child process."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.options import to_json
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.process.judging import JUDGE_ENVIRONMENT
from tpu2gpu.process.worker import run_in_child
from tpu2gpu.progress import Progress


def measure_cast(
    source: str | os.PathLike[str], options: CastOptions, unfit: Mapping[str, str], progress: Progress
) -> dict[str, Any]:
    """Measure what a cast does to the outputs, and what must stay for the budget.

    Args:
        source: The SavedModel.
        options: How it is cast.
        unfit: Weights that stay, with the reason.
        progress: Told that it begins.

    Returns:
        What the report says, and `kept`: for each node that must stay the reason. `error` is None, and `reason` says
        why, where the model cannot be measured and nobody asked for it.

    Raises:
        Tpu2GpuError: The model cannot be measured on the examples, or for the budget, that were given.
    """
    progress("measuring the outputs", 0, 1)
    arguments = {"source": os.fspath(source), "options": to_json(options), "unfit": dict(unfit)}
    try:
        found, _ = run_in_child(
            "tpu2gpu.precision_caster.measuring:measure",
            arguments,
            name="measurement of the cast",
            environment=JUDGE_ENVIRONMENT,
            preload=("tensorflow",),
        )
    except Tpu2GpuError as error:
        if options.examples or options.max_relative_error is not None:
            raise
        return {"error": None, "reason": "; ".join([error.message, *error.details[:3]])}
    finally:
        progress("measuring the outputs", 1, 1)
    kept = sorted(found["kept"])
    return {**dict(found), "kept_nodes": kept, "keep": [keep_expression(kept)] if kept else []}


def keep_expression(names: Collection[str]) -> str:
    """Return the regular expression that finds these names and no other, for `--keep`."""
    return f"^({'|'.join(_escape(name) for name in sorted(names))})$"


def _escape(name: str) -> str:
    return name.replace(".", r"\.")  # names of nodes hold letters, digits and . _ - / > only
