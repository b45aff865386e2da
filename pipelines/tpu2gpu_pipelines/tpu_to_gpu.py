"""The pipeline: a model is trained or given, imported, cast, frozen, converted, judged, promoted if it is blessed."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
from tfx.components import Trainer
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2

from tpu2gpu.tfx.artifacts import Checkpoint
from tpu2gpu_pipelines.examples import DigitExamples
from tpu2gpu_pipelines.files_state import files_state
from tpu2gpu_pipelines.serving_tail import gpu_serving
from tpu2gpu_pipelines.settings import Settings, TrainingOptions
from tpu2gpu_pipelines.step_digests import training_source_digest
from tpu2gpu_pipelines.step_names import examples_name

# A prefix (`model.ckpt-100`, `ckpt-7`), or a file that is a model or a part of a checkpoint.
_IS_NO_FOLDER = re.compile(r"ckpt(-\d+)?$|\.(index|meta|data-\d+-of-\d+|pb|keras|h5|hdf5)$")


def create_pipeline(settings: Settings) -> Pipeline:
    """Make the pipeline; the same settings make the same one.

    Where the settings name a checkpoint, an importer node with that URI stands in the Trainer's place.

    Args:
        settings: What the steps are told.

    Raises:
        SourceError: There is no such training function.
    """
    examples = DigitExamples(settings.data, settings.data_uri, settings.data_state)
    return join_steps(settings, examples.with_id(examples_name(settings, examples.id)))


def join_steps(settings: Settings, examples: BaseComponent) -> Pipeline:
    """Join what brings the examples with the steps from training, or from a checkpoint, to promotion.

    Args:
        settings: What the steps are told.
        examples: A component whose output is `examples`.

    Raises:
        SourceError: There is no such training function.
    """
    if settings.checkpoint:
        trained = make_checkpoint(settings.checkpoint)
        _, name = split_checkpoint(settings.checkpoint)
        options = attrs.evolve(settings.import_, checkpoint_name=settings.import_.checkpoint_name or name)
        settings, source = attrs.evolve(settings, import_=options), {"checkpoint": trained.outputs["result"]}
    else:
        trained = make_trainer(examples.outputs["examples"], settings.training)
        source = {"model": trained.outputs["model"]}
    tail = gpu_serving(**source, examples=examples.outputs["examples"], settings=settings)
    return Pipeline(
        pipeline_name=settings.name,
        pipeline_root=settings.pipeline_root,
        components=[examples, trained, *tail],
        enable_cache=settings.cache,
    )


def make_trainer(examples: object, training: TrainingOptions) -> Trainer:
    """Make TFX's stock Trainer of a function's path and a digest of all that it is made of, so that it runs anew.

    Raises:
        SourceError: There is no such training function, or nothing that it is said to depend on.
    """
    config = {
        "batch_size": training.batch_size,
        "learning_rate": training.learning_rate,
        "seed": training.seed,
        "checkpoint_root": training.checkpoint_root,
        "checkpoint_steps": training.checkpoint_steps,
        "config": training.config,
        "source_sha256": training_source_digest(training),
    }
    return Trainer(
        examples=examples,
        run_fn=training.run_fn,
        train_args=trainer_pb2.TrainArgs(splits=["train"], num_steps=training.steps),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
        custom_config=config,
    )


def make_checkpoint(uri: str) -> Importer:
    """Make an importer node for what was trained elsewhere.

    Where its files can be seen from here, their state is on the artifact, so that what changed in its place is
    imported anew.

    Args:
        uri: A folder, file or checkpoint prefix, or a URI.
    """
    state = files_state(uri)
    folder, _ = split_checkpoint(uri)
    return Importer(
        source_uri=folder, artifact_type=Checkpoint, custom_properties={"files_state": state} if state else {}
    ).with_id("Checkpoint")


def split_checkpoint(uri: str) -> tuple[str, str]:
    """Split what names a checkpoint or a file into its folder and its name there; a folder has no name.

    Kubeflow's launcher downloads folders: of a prefix it would download nothing, and say nothing.

    Args:
        uri: A folder, a file or a checkpoint's prefix, or its URI; a `/` at its end says that it is a folder.
    """
    folder, separator, name = uri.rpartition("/")
    if uri.endswith("/") or Path(uri).is_dir() or not _IS_NO_FOLDER.search(name):
        return uri, ""
    return folder or separator or ".", name
