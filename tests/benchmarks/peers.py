"""Other ways to do the same work, written as their users write them; each runs as a whole process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def cast_load_all(source: str, target: str) -> None:
    """Take every tensor into memory, `tf.cast`, `tf.train.Checkpoint`."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(source)
    variables = {}
    for name in reader.get_variable_to_shape_map():
        value = reader.get_tensor(name)
        variables[name.replace("/", ".")] = tf.Variable(
            tf.cast(value, tf.float16) if value.dtype == np.float32 else value
        )
    Path(target).mkdir(parents=True)
    tf.train.Checkpoint(**variables).write(f"{target}/model")


def cast_streaming(source: str, target: str) -> None:
    """Cast slice by slice: RestoreV2 in slices of 128 MB, tf.cast, SaveV2, MergeV2Checkpoints."""
    import tensorflow as tf

    Path(target).mkdir(parents=True)
    reader, budget = tf.train.load_checkpoint(source), 128 << 20
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    groups: list[list[tuple[str, str, Any]]] = [[]]
    filled = 0
    for name in sorted(shapes):
        shape, size = shapes[name], int(np.prod(shapes[name], dtype=np.int64)) * dtypes[name].size
        if size > budget:
            rows = max(1, budget // (size // shape[0]))
            full = " ".join(map(str, shape))
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                groups.append([(name, f"{full} {start},{count}:" + ":".join("-" for _ in shape[1:]), dtypes[name])])
            groups.append([])
            filled = 0
            continue
        groups[-1].append((name, "", dtypes[name]))
        filled += size
        if filled > budget:
            groups.append([])
            filled = 0
    prefixes = []
    for number, group in enumerate(filter(None, groups)):
        names, slices, types = map(list, zip(*group, strict=True))
        tensors = tf.raw_ops.RestoreV2(prefix=source, tensor_names=names, shape_and_slices=slices, dtypes=types)
        cast = [tf.cast(tensor, tf.float16) if tensor.dtype == tf.float32 else tensor for tensor in tensors]
        prefixes.append(f"{target}/part-{number}")
        tf.raw_ops.SaveV2(prefix=prefixes[-1], tensor_names=names, shape_and_slices=slices, tensors=cast)
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=prefixes, destination_prefix=f"{target}/model", delete_old_dirs=False
    )


def freeze_v2(source: str, target: str) -> None:
    """`convert_variables_to_constants_v2`."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    loaded = tf.saved_model.load(source)
    frozen = convert_variables_to_constants_v2(loaded.signatures["serving_default"])
    Path(target).mkdir()
    tf.io.write_graph(frozen.graph.as_graph_def(), target, "frozen_graph.pb", as_text=False)


def freeze_session(source: str, target: str) -> None:
    """`convert_variables_to_constants`, what TensorFlow 1's `freeze_graph` calls."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as running:
        meta = v1.saved_model.load(running, ["serve"], source)
        outputs = [info.name.split(":")[0] for info in meta.signature_def["serving_default"].outputs.values()]
        frozen = v1.graph_util.convert_variables_to_constants(running, graph.as_graph_def(), outputs)
    Path(target).mkdir()
    tf.io.write_graph(frozen, target, "frozen_graph.pb", as_text=False)


def import_meta_graph(prefix: str, target: str) -> None:
    """`import_meta_graph`, `Saver.restore` and a SavedModel of the training graph, which is less than an import."""
    import tensorflow as tf

    v1 = tf.compat.v1
    options = v1.ConfigProto(graph_options=v1.GraphOptions(place_pruned_graph=True), allow_soft_placement=True)
    with tf.Graph().as_default() as graph, v1.Session(config=options) as session:
        v1.train.import_meta_graph(f"{prefix}.meta").restore(session, prefix)
        images, logits = graph.get_tensor_by_name("InfeedQueue/dequeue:0"), graph.get_tensor_by_name("logits:0")
        v1.saved_model.simple_save(session, target, {"images": images}, {"logits": logits})


def unfreeze_recipe(source: str, target: str) -> None:
    """Import the graph, make variables of its constants, import it again, save.

    Source: https://stackoverflow.com/a/46358461, with today's names: `import_graph_def` and its `input_map`.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    graph_def = v1.GraphDef.FromString((Path(source) / "frozen_graph.pb").read_bytes())
    names = json.loads((Path(source) / "signature.json").read_text())["signatures"]["serving_default"]
    weights = [node.name for node in graph_def.node if node.op == "Const" and node.attr["dtype"].type == 1]
    with tf.Graph().as_default(), v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        values = dict(zip(weights, session.run([f"{name}:0" for name in weights]), strict=True))
    Path(target).mkdir()
    with tf.Graph().as_default() as graph, v1.Session() as session:
        placeholders, variables = {}, {}
        for name, value in values.items():
            placeholders[name] = v1.placeholder(value.dtype, value.shape)
            variables[name] = v1.Variable(placeholders[name], name=name, use_resource=True)
        tf.import_graph_def(graph_def, {f"{name}:0": it.value() for name, it in variables.items()}, name="model")
        for name, variable in variables.items():
            session.run(variable.initializer, {placeholders[name]: values[name]})
        v1.train.Saver().save(session, f"{target}/model.ckpt", write_meta_graph=False)
        tensors = {
            side: {key: graph.get_tensor_by_name(f"model/{name}") for key, name in names[side].items()}
            for side in ("inputs", "outputs")
        }
        v1.saved_model.simple_save(session, f"{target}/saved", tensors["inputs"], tensors["outputs"])


def build_engine(model: str, engine: str) -> None:
    """Build an engine as one does after reading TensorRT-RTX's documentation: one profile, the same GPUs as ours."""
    import tensorrt_rtx_bindings as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(model)
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        profile.set_shape(tensor.name, *((batch, *tuple(tensor.shape)[1:]) for batch in (1, 8, 32)))
    config.add_optimization_profile(profile)
    capabilities = (
        trt.ComputeCapability.SM80,
        trt.ComputeCapability.SM86,
        trt.ComputeCapability.SM89,
        trt.ComputeCapability.SM120,
        trt.ComputeCapability.SM121,
    )
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(capability, index)
    Path(engine).write_bytes(builder.build_serialized_network(network, config))
