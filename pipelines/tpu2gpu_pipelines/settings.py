"""Everything that one run of the pipeline may be told, from one YAML file."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import SourceError, UsageError
from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.model_pusher.options import PushOptions
from tpu2gpu.options import option
from tpu2gpu.plain_json import parse_yaml
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.storage.near import what_is_near
from tpu2gpu.storage.whole_files import read_plain_text
from tpu2gpu.trt_converter.options import ConvertOptions
from tpu2gpu_pipelines.datasets import DigitsOptions
from tpu2gpu_pipelines.kubeflow_options import KubeflowOptions
from tpu2gpu_pipelines.scenes import SceneOptions
from tpu2gpu_pipelines.structuring import structure

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_DIGITS = "tpu2gpu_pipelines.trainers.digits.run_fn"
_P99_MS = 100.0  # generous: the demo runs on any machine, busy ones too


@attrs.frozen(kw_only=True)
class TrainingOptions:
    """How to train.

    Attributes:
        run_fn: Path of the function that TFX's Trainer calls.
        steps: Batches.
        batch_size: Examples in each, over all replicas.
        learning_rate: At the start.
        seed: For weights, order and dropout.
        config: Whatever else the function takes; it finds them under `config` in TFX's `custom_config`.
        depends_on: Files whose content it reads beside the examples: paths, patterns, folders or URIs. A change of one
            is a change of the training.
        checkpoint_root: Where a training under way keeps its checkpoints: a folder on a volume that outlives the
            machine, or a URI that TensorFlow writes to. Without it a training that was broken off begins anew.
        checkpoint_steps: Steps from one checkpoint to the next, and from one look at the held-out images to the next.
    """

    run_fn: str = option(_DIGITS, "the function that trains", metavar="PACKAGE.MODULE.FUNCTION")
    steps: int = option(240, "batches to train on", minimum=1)
    batch_size: int = option(64, "examples in a batch, over all replicas", minimum=1)
    learning_rate: float = option(0.002, "at the start", minimum=0)
    seed: int = option(7, "for weights, order and dropout", minimum=0)
    config: dict[str, Any] = attrs.field(factory=dict)
    depends_on: tuple[str, ...] = option((), "a file whose content the training depends on", metavar="PATH")
    checkpoint_root: str = option("", "where a training under way keeps its checkpoints", metavar="URI")
    checkpoint_steps: int = option(40, "steps from one checkpoint to the next", minimum=1)

    @config.validator
    def _check_config(self, attribute: attrs.Attribute[Any], value: dict[str, Any]) -> None:
        if wrong := list(_not_json(value, "")):
            raise UsageError(f"--config {'; '.join(wrong)}")


@attrs.frozen(kw_only=True)
class Settings:
    """What a run is told; each field is a key or a section of the YAML file, and each has a default.

    Attributes:
        name: The pipeline's name. Former results are kept by it.
        root: Folder of everything that runs leave behind.
        promotion_uri: Folder of promoted models; `promoted` in `root` when empty.
        checkpoint: What a training run elsewhere left behind, in any form that `tpu2gpu.import_model` reads: it is
            imported, and nothing is trained. A folder, file or checkpoint prefix, or a URI where the pipeline runs on
            Kubeflow. Kubeflow takes a checkpoint that changed at the same URI for the same one.
        cache: Take a former result where a step would do the same again.
        hardware: What measures, for the cache; a local run fills it in.
        data_uri: Folder of an Examples artifact to take instead of the digits.
        data_state: What tells those examples from others, for the cache; a local run fills it in.
        data: Section of `DigitsOptions`, for the pipeline `digits`.
        scenes: Section of `SceneOptions`, for the pipeline `detector`.
        training: Section of `TrainingOptions`.
        import_: Section `import` of `ImportOptions`.
        cast: Section of `CastOptions`.
        freeze: Section of `FreezeOptions`.
        convert: Section of `ConvertOptions`.
        evaluate: Section of `EvaluateOptions`.
        promote: Section of `PushOptions`.
        kubeflow: Section of `KubeflowOptions`.
    """

    name: str = option("tpu2gpu-digits", "the pipeline's name")
    root: str = option("demo", "folder of everything that runs leave behind")
    promotion_uri: str = option("", "folder of promoted models (default: `promoted` in the root)")
    checkpoint: str = option("", "what was trained elsewhere, to import it instead of training", metavar="URI")
    cache: bool = option(True, "take a former result where a step would do the same again")
    hardware: str = option("", "what measures; a local run fills it in")
    data_uri: str = option("", "folder of examples, `Split-train` and `Split-eval`, instead of the digits")
    data_state: str = option("", "what tells those examples from others; a local run fills it in")
    data: DigitsOptions = attrs.field(factory=DigitsOptions)
    scenes: SceneOptions = attrs.field(factory=SceneOptions)
    training: TrainingOptions = attrs.field(factory=TrainingOptions)
    import_: ImportOptions = attrs.field(factory=ImportOptions)
    cast: CastOptions = attrs.field(factory=CastOptions)
    freeze: FreezeOptions = attrs.field(factory=FreezeOptions)
    convert: ConvertOptions = attrs.field(factory=ConvertOptions)
    evaluate: EvaluateOptions = attrs.field(factory=lambda: EvaluateOptions(max_p99_ms=_P99_MS))
    promote: PushOptions = attrs.field(factory=PushOptions)
    kubeflow: KubeflowOptions = attrs.field(factory=KubeflowOptions)

    @name.validator
    def _check_name(self, attribute: attrs.Attribute[str], value: str) -> None:
        if not _NAME.fullmatch(value):
            raise UsageError(f"--name {value}: must be small letters, digits and -, at most 63, a letter first")

    @property
    def pipeline_root(self) -> str:
        """Folder of the steps' outputs."""
        return f"{self.root}/pipeline"

    @property
    def promotion_folder(self) -> str:
        """Folder of the promoted models."""
        return self.promotion_uri or f"{self.root}/promoted"


Check = Callable[[Settings], list[str]]


def _not_json(value: Any, where: str) -> Iterator[str]:
    """Name the values that do not come through JSON as they are."""
    if isinstance(value, dict):
        for key, item in value.items():
            here = f"{where}.{key}".lstrip(".")
            yield from _not_json(item, here) if isinstance(key, str) else [f"{here}: the key must be text"]
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_json(item, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{where}: must be a finite number, not {value}"
    elif not isinstance(value, str | int | float | bool | None):
        yield f"{where}: must be a number, text, true, false, null, a list or a mapping, not {type(value).__name__}"


def load_settings(
    path: str | os.PathLike[str], check: Check | None = None, default: Settings | None = None
) -> Settings:
    """Read a settings file.

    Args:
        path: The file.
        check: Looks for mistakes in what was read; they are told with those of the form.
        default: What the file changes; the classes' own settings when not given.

    Raises:
        SourceError: The file is missing, or not YAML.
        UsageError: It holds unknown keys or values that are not allowed; all are listed with their path.
    """
    try:
        values = parse_yaml(read_plain_text(Path(path)))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})", hint=what_is_near(Path(path))) from error
    except ValueError as error:
        raise SourceError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    return make_settings(values or {}, str(path), check, default)


def as_settings(given: Settings | Mapping[str, Any] | str | os.PathLike[str]) -> Settings:
    """Return settings that are made already, make them of plain data, or read them from a file.

    Raises:
        SourceError: The file is missing, or not YAML.
        UsageError: There are unknown keys or values that are not allowed; all are listed with their path.
    """
    if isinstance(given, Settings):
        return given
    return make_settings(given, "settings") if isinstance(given, Mapping) else load_settings(given)


def make_settings(values: Any, where: str, check: Check | None = None, default: Settings | None = None) -> Settings:
    """Make settings of plain data.

    Args:
        values: Keys and values, sections as mappings.
        where: What they came from, for messages.
        check: Looks for mistakes in what was made of them, whatever has the wrong form left out.
        default: What the values change; the classes' own settings when not given.

    Raises:
        UsageError: There are unknown keys or values that are not allowed; all are listed with their path.
    """
    wrong: list[str] = []
    settings: Settings = structure(default or Settings(), values, "", wrong)
    if check:
        wrong += check(settings)
    if wrong:
        raise UsageError(f"{where}: cannot be used as settings", details=wrong)
    return settings
