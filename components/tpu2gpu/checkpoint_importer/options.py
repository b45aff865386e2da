"""Options and result of `import_model`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.graphs.trust.trust_option import trust_option
from tpu2gpu.options import KnownNames, as_mapping, option

if TYPE_CHECKING:
    from tpu2gpu.graphs.passes.training.replace_infeeds import Input


@attrs.frozen(kw_only=True)
class ImportOptions(KnownNames):
    """The options of an import.

    Attributes:
        graph: The graph for a checkpoint that has none: a SavedModel, a `.meta` or `.pb` file, or
            `package.module:function` that builds it.
        checkpoint_name: What is wanted in the source folder: a checkpoint's prefix, or a file. For those who can only
            name folders, such as a pipeline's artifacts.
        step: The step of training that is wanted from a training folder; the newest when not given.
        tag: The tags of the graph that is wanted from a SavedModel with several, `serve` or `serve,tpu`.
        input: Where to cut a training graph, `NAME=TENSOR[:DTYPE[:SHAPE]]`; infeeds and placeholders otherwise. Or,
            as `NAME:DTYPE:SHAPE`, the shape of an input that is there, where the model leaves it open.
        fix: Inputs that are to hold one value for good, `INPUT=VALUE`, such as a switch of training.
        output: What the model returns, `NAME=TENSOR`; the logits before the loss otherwise.
        batch: Examples in each request, fixed; any number when not given, where the graph allows it.
        signature: The signatures to keep; all when none is named.
        rename: Rules for variables' names, `REGEX=REPLACEMENT`, applied in order.
        drop: Tensors of the checkpoint that are not wanted, besides optimizer slots, moving averages and steps.
        use_ema: Take the moving averages of weights as the weights.
        extra_pass: Passes of your own on the serving graph, `MODULE:CLASS`, run in order after the others.
        custom_objects: Modules with the classes and functions of your own that a whole Keras model names, registered
            by `keras.saving.register_keras_serializable` or not.
        keep_bfloat16: Go on computing in bfloat16 where the source does; otherwise in float32.
        keep_stablehlo: Leave StableHLO modules, as JAX exports them, whole; otherwise they become nodes.
    """

    graph: str = option("", "the graph of a bare checkpoint: a model, or package.module:function", metavar="GRAPH")
    checkpoint_name: str = option("", "a prefix or file in the source folder", metavar="NAME")
    step: int | None = option(None, "the step of training (default: the newest)", minimum=0)
    input: tuple[str, ...] = option(
        (),
        "cut a training graph here; or NAME:DTYPE:SHAPE, an input's open shape",
        metavar="NAME=TENSOR[:DTYPE[:SHAPE]]",
    )
    output: tuple[str, ...] = option((), "return this tensor", metavar="NAME=TENSOR")
    fix: tuple[str, ...] = option((), "give an input one value for good", metavar="INPUT=VALUE")
    tag: str = option("", "take the SavedModel's graph with these tags", metavar="TAG[,TAG]")
    batch: int | None = option(None, "fix the number of examples in a request", minimum=1)
    signature: tuple[str, ...] = option((), "keep this signature (default: all)", metavar="NAME")
    rename: tuple[str, ...] = option((), "rename variables, in order", metavar="'REGEX=REPLACEMENT'")
    drop: tuple[str, ...] = option((), "leave out tensors of the checkpoint", metavar="REGEX")
    extra_pass: tuple[str, ...] = option((), "run a pass of your own, in order", metavar="MODULE:CLASS")
    custom_objects: tuple[str, ...] = option(
        (), "a module with the layers of your own that a Keras model is made of", metavar="MODULE"
    )
    trust: tuple[str, ...] = trust_option()
    use_ema: bool = option(False, "take the moving averages of weights as the weights")
    keep_bfloat16: bool = option(False, "go on computing in bfloat16 where the source does")
    keep_stablehlo: bool = option(
        False, "leave StableHLO modules, as JAX exports them, whole: TensorFlow alone runs them"
    )


@attrs.frozen
class ImportResult:
    """The result of an import.

    Attributes:
        target: The SavedModel that was written.
        signatures: Names of its signatures.
        variables: Number of its variables.
        size_bytes: Bytes of its variables.
        report: What `report.json` holds.
        remarks: What stands in the report and should not be overlooked.
    """

    target: Path
    signatures: tuple[str, ...]
    variables: int
    size_bytes: int
    report: dict[str, Any]
    remarks: tuple[str, ...] = ()


def parse_fixed(texts: Iterable[str]) -> dict[str, str]:
    """Read `INPUT=VALUE`.

    Raises:
        UsageError: Some have another form.
    """
    return as_mapping("fix", texts, "INPUT=VALUE")


def parse_inputs(texts: Iterable[str]) -> list[Input]:
    """Read `NAME=TENSOR[:DTYPE[:SHAPE]]`, such as `image=InfeedQueue/dequeue:0:float32:?x224x224x3`.

    `NAME:DTYPE:SHAPE` names a placeholder, or an input that a signature has, and tells its shape.

    Raises:
        UsageError: Some have another form; all are listed.
    """
    from tpu2gpu.graphs.passes.training.replace_infeeds import Input
    from tpu2gpu.tensorbundle.format import DTYPE_ENUMS

    parsed, wrong = [], []
    for text in texts:
        name, separator, rest = text.partition("=")
        if not separator:
            name, _, rest = text.partition(":")
        parts = rest.split(":")
        tensor = parts.pop(0) if separator else name
        if separator and parts and parts[0].isdigit():
            tensor += f":{parts.pop(0)}"
        dtype = DTYPE_ENUMS.get(parts[0], 0) if parts else 0
        try:
            shape = _shape(parts[1]) if len(parts) > 1 else None
            short = not separator and len(parts) != 2
            if short or not name or not tensor or len(parts) > 2 or (parts and not dtype):
                raise ValueError("not of this form" if short or not parts or dtype else f"no type {parts[0]!r}")
            parsed.append(Input(name, tensor, dtype, shape, is_stated=not separator))
        except ValueError as error:
            wrong.append(f"{text!r}: {error}")
    if wrong:
        raise UsageError(
            "--input: inputs have the form NAME=TENSOR[:DTYPE[:SHAPE]], or NAME:DTYPE:SHAPE",
            details=wrong,
            hint="for example image=InfeedQueue/dequeue:0:float32:?x224x224x3",
        )
    return parsed


def _shape(text: str) -> tuple[int | None, ...]:
    from tpu2gpu.tensorbundle.format import wrong_sizes

    sizes = [size for size in re.split("[x,]", text.strip("[]")) if size]
    parsed = tuple(None if size in ("?", "-1", "None") else int(size) for size in sizes)
    if wrong := wrong_sizes([1 if size is None else size for size in parsed]):
        raise ValueError(wrong)
    return parsed


def parse_outputs(texts: Iterable[str]) -> dict[str, str]:
    """Read `NAME=TENSOR`.

    Raises:
        UsageError: Some have another form, or one name twice; all are listed.
    """
    parsed: dict[str, str] = {}
    wrong = []
    for text in texts:
        name, _, tensor = text.partition("=")
        if not name or not tensor or name in parsed:
            wrong.append(f"{text!r}: the name stands twice" if name in parsed else repr(text))
        parsed[name] = tensor
    if wrong:
        raise UsageError("--output: outputs have the form NAME=TENSOR", details=wrong)
    return parsed
