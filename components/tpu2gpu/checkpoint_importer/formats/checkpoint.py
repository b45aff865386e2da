"""Makes a serving model of a training graph and its checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tpu2gpu.checkpoint_importer.found import Found
from tpu2gpu.errors import SourceError, UsageError
from tpu2gpu.graphs.formats.saved_model import make_variables_resources
from tpu2gpu.graphs.formats.variable_restore import restore_variables, restored_by_saver, trainable_names
from tpu2gpu.graphs.model import DEFAULT_SIGNATURE, ServingModel
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.passes.rename_variables import new_name, parse_rules
from tpu2gpu.graphs.passes.serving_form import clear_attributes, signature_of
from tpu2gpu.graphs.passes.to_inference import Input, to_inference
from tpu2gpu.storage.paths import Place
from tpu2gpu.tensorbundle.format import DTYPE_ENUMS

_PREDICT = "tensorflow/serving/predict"


def parse_meta_graph(path: Place) -> Any:
    """Read a MetaGraphDef (`.meta`).

    Raises:
        SourceError: It is not there, or cannot be parsed.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import meta_graph_pb2

    try:
        meta = meta_graph_pb2.MetaGraphDef.FromString(path.read_bytes())
    except FileNotFoundError as error:
        raise SourceError(f"{path}: not there", hint="give --graph") from error
    except DecodeError as error:
        raise SourceError(f"{path}: damaged, it cannot be parsed", hint="fetch it again, or give --graph") from error
    if not meta.graph_def.node:
        raise SourceError(f"{path}: holds no graph", hint="give --graph")
    return meta


def parse_inputs(texts: Iterable[str]) -> list[Input]:
    """Read `NAME=TENSOR[:DTYPE[:SHAPE]]`, such as `image=InfeedQueue/dequeue:0:float32:?x224x224x3`.

    Raises:
        UsageError: Some have another form; all are listed.
    """
    parsed, wrong = [], []
    for text in texts:
        name, separator, rest = text.partition("=")
        parts = rest.split(":")
        tensor = parts.pop(0)
        if parts and parts[0].isdigit():
            tensor += f":{parts.pop(0)}"
        dtype = DTYPE_ENUMS.get(parts[0], 0) if parts else 0
        try:
            shape = _shape(parts[1]) if len(parts) > 1 else None
            if not separator or not name or not tensor or len(parts) > 2 or (parts and not dtype):
                raise ValueError("not of this form" if not parts or dtype else f"no type {parts[0]!r}")
            parsed.append(Input(name, tensor, dtype, shape))
        except ValueError as error:
            wrong.append(f"{text!r}: {error}")
    if wrong:
        raise UsageError(
            "--input: inputs have the form NAME=TENSOR[:DTYPE[:SHAPE]]",
            details=wrong,
            hint="for example image=InfeedQueue/dequeue:0:float32:?x224x224x3",
        )
    return parsed


def _shape(text: str) -> tuple[int | None, ...]:
    sizes = [size for size in re.split("[x,]", text.strip("[]")) if size]
    return tuple(None if size in ("?", "-1", "None") else int(size) for size in sizes)


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


def serve_training_graph(
    meta: Any,
    bundle: Any,
    inputs: Iterable[Input],
    outputs: Mapping[str, str],
    *,
    use_ema: bool = False,
    drop: Iterable[str] = (),
    rename: Iterable[str] = (),
) -> Found:
    """Make a serving model of a MetaGraphDef and a checkpoint.

    Args:
        meta: The MetaGraphDef; its nodes are changed.
        bundle: Where the variables' values are.
        inputs: Tensors to cut at; what else feeds the outputs becomes an input by itself.
        outputs: Tensors by name; when there are none, the logits before the loss.
        use_ema: Take the moving averages of the variables.
        drop: Expressions for tensors of the checkpoint that are not meant to be used.
        rename: Rules that make names of graph and checkpoint alike.

    Raises:
        SignatureError: Inputs or outputs are not there or cannot be told.
        GraphError: The graph cannot serve, or the checkpoint does not fit it.
    """
    ops = OpDefs(meta.meta_info_def.stripped_op_list.op)
    restored, trainable = restored_by_saver(meta, ops), trainable_names(meta)
    served = to_inference(meta.graph_def, ops, inputs, outputs)
    model = ServingModel(
        nodes={name: _copy(node) for name, node in served.nodes.items()},  # so that the rest of the graph can go
        functions=served.functions,
        signatures={},
        variables={},
        ops=ops,
        bundle=bundle,
        init_node="",
        assets=[],
        versions=meta.graph_def.versions,
        tensorflow_version=meta.meta_info_def.tensorflow_version,
    )
    model.signatures[DEFAULT_SIGNATURE] = signature_of(served, ops)
    make_variables_resources(model)
    clear_attributes(model)
    model.prune()
    rules = parse_rules(rename)
    report = restore_variables(
        model, restored, trainable, use_ema=use_ema, drop=drop, rename=lambda name: new_name(name, rules)
    )
    return Found(model, served.done, report, served.batch)


def _copy(node: Any) -> Any:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy
