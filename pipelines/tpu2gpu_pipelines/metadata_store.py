"""What the metadata store knows of a run: its steps, whether each was executed, and what it put out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

COMPLETE, CACHED = "COMPLETE", "CACHED"
_RUN, _NODE = "pipeline_run", "node"


@attrs.frozen
class StepRecord:
    """One step of one run.

    Attributes:
        id: The component's id.
        state: `COMPLETE`, `CACHED`, `FAILED` and so on, as ML Metadata calls it.
        outputs: The artifacts of each output.
    """

    id: str
    state: str
    outputs: dict[str, list[OutputRecord]]


@attrs.frozen
class OutputRecord:
    """One artifact.

    Attributes:
        type: Its type's name.
        uri: Where it is.
        properties: Its custom properties.
    """

    type: str
    uri: str
    properties: dict[str, str | int | float]


def read_run(metadata: Path, run_name: str) -> list[StepRecord]:
    """Read the steps of a run in the order in which they began.

    Args:
        metadata: The SQLite file.
        run_name: The run.
    """
    from tfx.orchestration.metadata import Metadata, sqlite_metadata_connection_config

    with Metadata(sqlite_metadata_connection_config(str(metadata))) as handle:
        store = handle.store
        run = store.get_context_by_type_and_name(_RUN, run_name)
        if run is None:
            return []
        executions = sorted(store.get_executions_by_context(run.id), key=lambda execution: execution.id)
        return [_read_step(store, execution) for execution in executions]


def read_artifacts(metadata: Path, *types: str) -> list[dict[str, Any]]:
    """Read the custom properties of all artifacts of some types, of all runs, oldest first.

    Args:
        metadata: The SQLite file.
        types: The types' names.
    """
    from tfx.orchestration.metadata import Metadata, sqlite_metadata_connection_config

    with Metadata(sqlite_metadata_connection_config(str(metadata))) as handle:
        found = [artifact for name in types for artifact in handle.store.get_artifacts_by_type(name)]
    return [_read_output(artifact).properties for artifact in sorted(found, key=lambda artifact: artifact.id)]


def fail_running(metadata: Path, run_name: str) -> list[int]:
    """Mark a run's executions that never ended as failed.

    Args:
        metadata: The SQLite file.
        run_name: The run.

    Returns:
        Their numbers.
    """
    from ml_metadata.proto import metadata_store_pb2 as proto
    from tfx.orchestration.metadata import Metadata, sqlite_metadata_connection_config

    with Metadata(sqlite_metadata_connection_config(str(metadata))) as handle:
        run = handle.store.get_context_by_type_and_name(_RUN, run_name)
        executions = handle.store.get_executions_by_context(run.id) if run else []
        running = [one for one in executions if one.last_known_state == proto.Execution.RUNNING]
        for execution in running:
            execution.last_known_state = proto.Execution.FAILED
        handle.store.put_executions(running)
        return [execution.id for execution in running]


def _read_step(store: Any, execution: Any) -> StepRecord:
    from ml_metadata.proto import metadata_store_pb2 as proto

    node = next(context for context in store.get_contexts_by_execution(execution.id) if context.type == _NODE)
    outputs: dict[str, list[OutputRecord]] = {}
    for event in store.get_events_by_execution_ids([execution.id]):
        if event.type == proto.Event.OUTPUT:
            (artifact,) = store.get_artifacts_by_id([event.artifact_id])
            outputs.setdefault(event.path.steps[0].key, []).append(_read_output(artifact))
    state = proto.Execution.State.Name(execution.last_known_state)
    return StepRecord(node.name.rpartition(".")[2], state, outputs)


def _read_output(artifact: Any) -> OutputRecord:
    properties = {key: getattr(value, value.WhichOneof("value")) for key, value in artifact.custom_properties.items()}
    return OutputRecord(artifact.type, artifact.uri, properties)
