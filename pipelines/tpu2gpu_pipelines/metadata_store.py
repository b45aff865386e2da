"""What the metadata store knows of a run: its steps, whether each was executed, and what it put out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

COMPLETE, CACHED = "COMPLETE", "CACHED"
_RUN, _NODE, _PIPELINE = "pipeline_run", "node", "pipeline"


@attrs.frozen
class StepRecord:
    """One step of one run.

    Attributes:
        id: The component's id.
        state: `COMPLETE`, `CACHED`, `FAILED` and so on, as ML Metadata calls it.
        outputs: The artifacts of each output.
        inputs: Those of each input.
        step_s: Seconds from its begin to its end; None before that.
        pipeline: The pipeline's name.
    """

    id: str
    state: str
    outputs: dict[str, list[OutputRecord]]
    inputs: dict[str, list[OutputRecord]] = attrs.field(factory=dict)
    step_s: float | None = None
    pipeline: str = ""

    def given(self) -> Iterator[tuple[str, OutputRecord]]:
        """Give each artifact that it put out, with its key."""
        yield from ((key, artifact) for key, artifacts in self.outputs.items() for artifact in artifacts)

    def taken(self) -> Iterator[tuple[str, OutputRecord]]:
        """Give each artifact that went into it, with its key."""
        yield from ((key, artifact) for key, artifacts in self.inputs.items() for artifact in artifacts)


@attrs.frozen
class OutputRecord:
    """One artifact.

    Attributes:
        type: Its type's name.
        uri: Where it is.
        properties: Its custom properties.
        id: Its number in the metadata store.
    """

    type: str
    uri: str
    properties: dict[str, str | int | float]
    id: int = 0


def read_run(metadata: Path, run_name: str) -> list[StepRecord]:
    """Read the steps of a run in the order in which they began.

    Args:
        metadata: The SQLite file.
        run_name: The run.
    """
    store = _open(metadata)
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
    store = _open(metadata)
    found = [artifact for name in types for artifact in store.get_artifacts_by_type(name)]
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

    store = _open(metadata)
    run = store.get_context_by_type_and_name(_RUN, run_name)
    executions = store.get_executions_by_context(run.id) if run else []
    running = [one for one in executions if one.last_known_state == proto.Execution.RUNNING]
    for execution in running:
        execution.last_known_state = proto.Execution.FAILED
    store.put_executions(running)
    return [execution.id for execution in running]


def read_run_names(metadata: Path) -> list[str]:
    """Read the names of all runs, oldest first.

    Args:
        metadata: The SQLite file.
    """
    return [run.name for run in sorted(_open(metadata).get_contexts_by_type(_RUN), key=lambda run: run.id)]


def _open(metadata: Path) -> Any:
    """Open a store as TFX does, without the seconds that importing TFX takes."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2 as proto

    config = proto.ConnectionConfig()
    config.sqlite.filename_uri = str(metadata)
    config.sqlite.connection_mode = proto.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    return metadata_store.MetadataStore(config)


def _read_step(store: Any, execution: Any) -> StepRecord:
    from ml_metadata.proto import metadata_store_pb2 as proto

    contexts = {context.type: context.name for context in store.get_contexts_by_execution(execution.id)}
    sides: dict[int, dict[str, list[OutputRecord]]] = {proto.Event.OUTPUT: {}, proto.Event.INPUT: {}}
    for event in store.get_events_by_execution_ids([execution.id]):
        if event.type in sides:
            (artifact,) = store.get_artifacts_by_id([event.artifact_id])
            sides[event.type].setdefault(event.path.steps[0].key, []).append(_read_output(artifact))
    state = proto.Execution.State.Name(execution.last_known_state)
    running = execution.last_known_state in (proto.Execution.NEW, proto.Execution.RUNNING)
    began_ms, ended_ms = execution.create_time_since_epoch, execution.last_update_time_since_epoch
    return StepRecord(
        id=contexts[_NODE].rpartition(".")[2],
        state=state,
        outputs=sides[proto.Event.OUTPUT],
        inputs=sides[proto.Event.INPUT],
        step_s=None if running else (ended_ms - began_ms) / 1000,
        pipeline=contexts.get(_PIPELINE, ""),
    )


def _read_output(artifact: Any) -> OutputRecord:
    properties = {key: getattr(value, value.WhichOneof("value")) for key, value in artifact.custom_properties.items()}
    return OutputRecord(artifact.type, artifact.uri, properties, artifact.id)
