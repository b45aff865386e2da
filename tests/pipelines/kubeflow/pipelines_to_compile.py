"""Pipelines for the tests of Kubeflow: a user's own one, and those that no backend would run."""

from typing import Any

from tfx import v1 as tfx
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, OutputDict, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types.standard_artifacts import Examples, Model

from tpu2gpu.checkpoint_importer.component import CheckpointImporter
from tpu2gpu.latency_evaluator.component import LatencyEvaluator
from tpu2gpu.tfx.artifacts import Checkpoint, Report
from tpu2gpu_pipelines.settings import Settings


@component
def DescribeModel(  # noqa: N802 - a component is named as a class
    model: InputArtifact[Model],
    page: OutputArtifact[Report],
    title: Parameter[str],
    columns: Parameter[int] = 3,
) -> OutputDict(size=int):  # type: ignore[valid-type]
    from pathlib import Path

    folder = Path(page.uri)
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(f"<h1>{title}</h1><p>{model.uri} in {columns}</p>")
    return {"size": columns * 14}


@component
def PrintSize(size: Parameter[int]) -> None:  # noqa: N802 - a component is named as a class
    print("size", size, flush=True)


def importing_pipeline(settings: Settings) -> Any:
    """Imports a checkpoint that the run names, and a fixed model, and describes both by functions."""
    checkpoint = tfx.dsl.Importer(
        source_uri=RuntimeParameter(name="checkpoint_uri", ptype=str, default="gs://bucket/checkpoint"),
        artifact_type=Checkpoint,
    ).with_id("checkpoint_of_run")
    model = tfx.dsl.Importer(source_uri="gs://bucket/model", artifact_type=Model, custom_properties={"step": 7})
    importer = CheckpointImporter(checkpoint=checkpoint.outputs["result"])
    describe = DescribeModel(
        model=importer.outputs["model"], title=RuntimeParameter(name="title", ptype=str, default="A model")
    )
    again = DescribeModel(model=model.outputs["result"], title="Fixed").with_id("DescribeModel2")
    size = PrintSize(size=describe.outputs["size"].future().value)
    return tfx.dsl.Pipeline(
        settings.name, settings.pipeline_root, components=[checkpoint, model, importer, describe, again, size]
    )


def stock_pipeline(settings: Settings) -> Any:
    """A user's own end: an evaluation, and TFX's stock Pusher."""
    nodes = {
        key: tfx.dsl.Importer(source_uri=f"gs://bucket/{key}", artifact_type=kind).with_id(f"{key}_of_run")
        for key, kind in (("model", Model), ("reference", Model), ("examples", Examples))
    }
    found = {key: node.outputs["result"] for key, node in nodes.items()}
    evaluator = LatencyEvaluator(**found, promotion_uri="/models/promoted")
    pusher = tfx.components.Pusher(
        model=found["model"],
        model_blessing=evaluator.outputs["model_blessing"],
        infra_blessing=evaluator.outputs["infra_blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory="/models/promoted")
        ),
    )
    return tfx.dsl.Pipeline(settings.name, settings.pipeline_root, components=[*nodes.values(), evaluator, pusher])


def refused_pipeline(settings: Settings) -> Any:
    """Three things that open-source Kubeflow does not run: a resolver, a condition, a driver of one's own."""
    example_gen = tfx.components.CsvExampleGen(input_base="gs://bucket/data")
    resolver = tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestArtifactStrategy, model=tfx.dsl.Channel(type=Model)
    ).with_id("latest_model")
    importer = CheckpointImporter(model=resolver.outputs["model"])
    describe = DescribeModel(model=importer.outputs["model"], title="x")
    with tfx.dsl.Cond(describe.outputs["page"].future()[0].custom_property("ready") == 1):
        size = PrintSize(size=1)
    return tfx.dsl.Pipeline(
        settings.name, settings.pipeline_root, components=[example_gen, resolver, importer, describe, size]
    )


def clashing_pipeline(settings: Settings) -> Any:
    """Two components whose names are the same to Argo."""
    example = tfx.dsl.Importer(source_uri="gs://bucket/data", artifact_type=Examples).with_id("read_data")
    other = tfx.dsl.Importer(source_uri="gs://bucket/more", artifact_type=Examples).with_id("ReadData")
    return tfx.dsl.Pipeline(settings.name, settings.pipeline_root, components=[example, other])
