"""Un-freezes a model: its weights become variables again, in a SavedModel and in a checkpoint."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import SourceError, UsageError
from tpu2gpu.options import option
from tpu2gpu.progress import Progress, silent
from tpu2gpu.publishing import describe_source, publish

if TYPE_CHECKING:
    from tpu2gpu.graphs.serving_model import ServingModel
    from tpu2gpu.unfreezer.weights import Weight

CHECKPOINT_PREFIX = "checkpoint/model.ckpt"


@attrs.frozen(kw_only=True)
class UnfreezeOptions:
    """Which constants become variables.

    Attributes:
        include: Constants that do although the graph does not show it, by regular expression.
        exclude: Constants that do not although the graph shows it; stronger than `include`.
    """

    include: str = option("", "constants that are weights too", metavar="REGEX")
    exclude: str = option("", "constants that are no weights", metavar="REGEX")


@attrs.frozen
class UnfreezeResult:
    """What became variables.

    Attributes:
        target: The folder that was written.
        variables: How many constants became variables.
        trainable_variables: How many of those training would change.
        size_bytes: Their bytes.
        report: What `report.json` holds.
    """

    target: Path
    variables: int
    trainable_variables: int
    size_bytes: int
    report: dict[str, Any]


def unfreeze_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: UnfreezeOptions | None = None,
    *,
    force: bool = False,
    run_name: str = "",
    progress: Progress = silent,
) -> UnfreezeResult:
    """Un-freezes a model; variables have the names of the constants that they were.

    Args:
        source: A frozen SavedModel, or a frozen GraphDef (a `.pb` file, or the folder that `freeze` wrote).
        target: The SavedModel to write, with a checkpoint of the same variables in `checkpoint/`.
        options: Which constants become variables.
        force: Replace an existing target.
        run_name: The pipeline run, for the manifest.
        progress: Told what is being done.

    Raises:
        SourceError: The source is no frozen model, or no constant in it is a weight.
        SignatureError: The source has nothing to give in or to get out.
        UsageError: A regular expression is malformed.
        OutputExistsError: The target is there already.
    """
    from tpu2gpu.graphs.describing import describe_signatures, variables_size_bytes
    from tpu2gpu.graphs.saved_model import write_saved_model

    options = options or UnfreezeOptions()
    about = {"step": "unfreeze", "options": attrs.asdict(options), "source": describe_source(source), "run": run_name}
    with publish(target, force=force, about=about) as staging:
        progress("find the weights", 0, 2)
        model, weights = _find(source, options)
        if not weights:
            raise SourceError(
                f"{source}: no constant in it is a weight",
                way_out="name constants with --include, or give a frozen model",
            )
        make_variables(model, weights)
        staging.report = {
            "signatures": describe_signatures(model),
            "weights": [attrs.asdict(weight) for _, weight in sorted(weights.items())],
            "size_bytes": variables_size_bytes(model),
        }
        progress("write the variables", 1, 2)
        write_saved_model(model, staging.folder)
        _write_checkpoint(model, staging.folder / CHECKPOINT_PREFIX)
        progress("done", 2, 2)
    trainable = sum(weight.trainable for weight in weights.values())
    return UnfreezeResult(Path(target), len(weights), trainable, staging.report["size_bytes"], staging.report)


def list_weights(source: str | os.PathLike[str], options: UnfreezeOptions | None = None) -> list[dict[str, Any]]:
    """What `unfreeze_model` would make variables: node, role, who takes it, and whether it is trainable.

    Raises:
        SourceError: The source is no frozen model.
        SignatureError: The source has nothing to give in or to get out.
        UsageError: A regular expression is malformed.
    """
    _, weights = _find(source, options or UnfreezeOptions())
    return [attrs.asdict(weight) for _, weight in sorted(weights.items())]


def make_variables(model: ServingModel, weights: dict[str, Weight]) -> None:
    """Puts a variable of the same name in the place of each weight.

    Args:
        model: The model, changed in place.
        weights: The weights, by the constant's name.
    """
    from tensorflow.python.framework import tensor_util

    from tpu2gpu.graphs.serving_model import Variable

    readers = {}
    for name, weight in weights.items():
        constant = model.nodes[name]
        dtype = constant.attr["dtype"].type
        value = tensor_util.MakeNdarray(constant.attr["value"].tensor)
        handle = type(constant)(name=name, op="VarHandleOp")
        handle.attr["dtype"].type = dtype
        handle.attr["shape"].shape.CopyFrom(constant.attr["value"].tensor.tensor_shape)
        handle.attr["shared_name"].s = name.encode()
        reader = type(constant)(name=model.free_name(f"{name}/read"), op="ReadVariableOp")
        reader.attr["dtype"].type = dtype
        readers[name] = reader
        model.nodes[name] = handle
        model.variables[name] = Variable(name, name, dtype, value.shape, weight.trainable, value=value)
    model.redirect({name: reader.name for name, reader in readers.items()})
    for name, reader in readers.items():
        reader.input.append(name)
        model.nodes[reader.name] = reader


def _find(source: str | os.PathLike[str], options: UnfreezeOptions) -> tuple[ServingModel, dict[str, Weight]]:
    from tpu2gpu.unfreezer.weights import Weight, WeightFinder

    include, exclude = (
        _pattern(flag, text) for flag, text in (("include", options.include), ("exclude", options.exclude))
    )
    model = _read(source)
    weights = WeightFinder(model).find()
    for name, node in model.nodes.items():
        if node.op == "Const" and include and include.search(name):
            weights.setdefault(name, Weight(name, "included", "", trainable=True))
        if exclude and exclude.search(name):
            weights.pop(name, None)
    return model, weights


def _read(source: str | os.PathLike[str]) -> ServingModel:
    from tpu2gpu.graphs.graph_def import FROZEN_GRAPH_FILE, read_graph_def
    from tpu2gpu.graphs.saved_model import read_saved_model

    path = Path(source)
    if path.is_file():
        return read_graph_def(path)
    if (path / FROZEN_GRAPH_FILE).is_file() and not (path / "saved_model.pb").is_file():
        return read_graph_def(path / FROZEN_GRAPH_FILE)
    return read_saved_model(path)


def _pattern(name: str, text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise UsageError(f"--{name} {text!r}: not a regular expression ({error})") from error


def _write_checkpoint(model: ServingModel, prefix: Path) -> None:
    from tpu2gpu.tensorbundle.writer import BundleWriter

    with BundleWriter(prefix) as writer:
        for name, variable in sorted(model.variables.items()):
            writer.add(name, variable.dtype, variable.shape, model.value_chunks(variable))
