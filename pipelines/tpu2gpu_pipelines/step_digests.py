"""Digests of what a training and a pipeline of one's own are made of: no former result outlives a change of it."""

from __future__ import annotations

from collections.abc import Iterator
from glob import iglob
from typing import Any

from tpu2gpu.errors import SourceError
from tpu2gpu.sources.digest import source_digest
from tpu2gpu.storage.paths import Place, is_remote, place
from tpu2gpu_pipelines.module_source import find_source
from tpu2gpu_pipelines.settings import TrainingOptions

DIGEST = "source_sha256"


def training_source_digest(training: TrainingOptions) -> str:
    """Return the SHA-256 of all that a training function is made of, without importing it.

    These are its module, the modules beside it, all that these import from outside of what is installed, the files that
    it is said to depend on, and the versions of TensorFlow and Keras.

    Args:
        training: Names the function, as `package.module.function`, and the files.

    Raises:
        SourceError: There is no such module or file; all missing files are named.
    """
    module = training.run_fn.rpartition(".")[0]
    source = find_source(module)
    if source is None:
        raise SourceError(
            f"training.run_fn {training.run_fn}: there is no module '{module}'", hint="give a module's path"
        )
    package = module.rpartition(".")[0]
    beside = [file.stem for file in sorted(source.parent.glob("*.py"))] if package else []
    others = (f"{package}.{name}".removesuffix(".__init__") for name in beside)
    return source_digest(module, *others, files=_depended_on(training.depends_on), data=False)


def add_pipeline_digest(pipeline: Any, module: str) -> None:
    """Have every step that tells nothing of its own source count on that of the pipeline's.

    Such are functions that TFX makes components of, and stock components: TFX knows them by their names alone.

    Args:
        pipeline: A TFX pipeline.
        module: The module that made it.
    """
    from tfx.dsl.components.base.base_component import BaseComponent

    silent = [
        step
        for step in pipeline.components
        if isinstance(step, BaseComponent) and DIGEST not in repr(step.exec_properties)
    ]
    digest = source_digest(module, data=False) if silent else ""
    for step in silent:
        step.exec_properties[DIGEST] = digest


def _depended_on(patterns: tuple[str, ...]) -> dict[str, Place]:
    """Find the files that paths, patterns, folders and URIs mean.

    Raises:
        SourceError: One means no file; all that do not are named.
    """
    found: dict[str, Place] = {}
    missing = []
    for pattern in patterns:
        local = () if is_remote(pattern) else iglob(pattern, recursive=True)  # noqa: PTH207 - of whole paths too
        starts = [place(path) for path in (local or [pattern])]
        files: dict[str, Place] = {f"depends_on/{file}": file for start in starts for file in _files(start)}
        if not files:
            missing.append(f"{pattern}: no such file")
        found |= files
    if missing:
        raise SourceError("training.depends_on: files are missing", details=missing, hint="name what is there")
    return found


def _files(path: Place) -> Iterator[Place]:
    if path.is_dir():
        for entry in path.iterdir():
            yield from _files(entry)
    elif path.is_file():
        yield path
