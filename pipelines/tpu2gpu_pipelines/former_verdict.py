"""When a local run may take over a former verdict: while the incumbent is the one that it was reached against.

TFX's cache knows what goes into a step, and not what is promoted. Model A, then B, then A again: A's old verdict says
nothing of B, and its old promotion promotes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.storage.promotion.promoting import find_incumbents
from tpu2gpu.storage.publishing import read_manifest
from tpu2gpu_pipelines.metadata_store import OutputRecord, StepRecord, read_artifacts

_BLESSINGS = ("ModelBlessing", "InfraBlessing")


def may_take_former(node: Any, records: Sequence[StepRecord], metadata: Path) -> bool:
    """Tell whether a step may be served from the cache as far as what is promoted goes.

    A candidate that is served already was judged, and needs no second promotion; one that was refused stays refused
    while the incumbent is the same. Whatever else is judged and promoted anew.

    Args:
        node: The step in TFX's plan.
        records: What the run's steps before it have put out.
        metadata: The SQLite file, which knows former verdicts.
    """
    from tpu2gpu.tfx.artifacts import model_source

    parameters, candidate = node.parameters.parameters, _candidate(node, records)
    if "promotion_uri" not in parameters or candidate is None:
        return True  # it neither compares with what is promoted nor promotes
    folder = parameters["promotion_uri"].field_value.string_value
    try:
        digest = read_manifest(model_source(candidate))["digest"]
        incumbents = [read_manifest(version) for version in find_incumbents(folder)]
    except Tpu2GpuError:
        return False  # the step itself says why
    if digest in [manifest.get("promoted_digest") for manifest in incumbents]:
        return True
    former = [
        blessing for blessing in read_artifacts(metadata, *_BLESSINGS) if blessing.get("candidate_digest") == digest
    ]
    last = former[-len(_BLESSINGS) :]
    refused = any(blessing.get("blessed") != 1 for blessing in last)
    against = {blessing.get("incumbent_digest") for blessing in last}
    return refused and against <= ({manifest["digest"] for manifest in incumbents} or {""})


def _candidate(node: Any, records: Sequence[StepRecord]) -> OutputRecord | None:
    """Return the serving folder that goes into a step."""
    inputs = node.inputs.inputs
    for channel in inputs["model"].channels if "model" in inputs else ():  # looking for it would add it
        for record in records:
            if record.id == channel.producer_node_query.id:
                return next(iter(record.outputs.get(channel.output_key, [])), None)
    return None
