"""TPU training graphs with their checkpoints, as TensorFlow 2 still builds them on a CPU, and genuine ones of 1.15."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

GENUINE = Path(__file__).parent / "tf115"
SIDE, CORES, STEP = 8, 2, 100
# What this TensorFlow knows of the TPU, renamed to what it has never heard of.
_TPU_OPS = re.compile(r"(Infeed|Outfeed|TPU|ConfigureDistributedTPU|CrossReplicaSum)")

Array = np.ndarray[Any, Any]


def genuine(folder: Path, network: str, archives: Path = GENUINE) -> Path:
    """A training folder of a TPUEstimator of TensorFlow 1.15; see `tf115/make.py`."""
    with tarfile.open(archives / f"{network}.tar.xz") as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)
    return folder


def normalised(pixels: Array) -> Array:
    """The images that `tf115/make_detector.py` trains on, of its `pixels`."""
    return ((pixels / 255.0 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).astype(np.float32)


def jpegs(exported: Path) -> Array:
    """The JPEG strings of `detector_exported`, [5]."""
    return np.load(exported / "answers.npz")["jpegs"].astype(object)


def detections(exported: Path, suppression: str) -> dict[int, dict[str, Array]]:
    """TensorFlow 1.15's answers to the first 1, 3 and 5 of those JPEG strings, `combined` or `per_class`."""
    found: dict[int, dict[str, Array]] = {}
    for key, value in np.load(exported / "answers.npz").items():
        if key.startswith(suppression):
            count, _, name = key.removeprefix(f"{suppression}_").partition("_")
            found.setdefault(int(count), {})[name] = value
    return found


def tpu_network(
    folder: Path, *, loop: str = "v1", optimizer: str = "momentum", bfloat16: bool = True, unknown: bool = False
) -> Path:
    """A convolution net with three kinds of dropout in a TPU training graph: images [8, 8, 8, 3] -> logits [8, 5].

    Beside the checkpoint stands `answers.npz`: what the same network, built for inference, answers to `x`.

    Args:
        folder: Where to write.
        loop: The training loop: `none`, `v1` (Enter, Merge, Switch, Exit) or `v2` (While).
        optimizer: `momentum` or `adam`.
        bfloat16: Compute in a bfloat16_scope.
        unknown: Give the TPU's ops names that no TensorFlow has registered.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    control_flow = v1.control_flow_v2_enabled()
    (v1.enable_control_flow_v2 if loop == "v2" else v1.disable_control_flow_v2)()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _train(v1, tf, folder, loop, optimizer, bfloat16)
    finally:
        (v1.enable_control_flow_v2 if control_flow else v1.disable_control_flow_v2)()
    if unknown:
        rename_tpu_ops(folder / f"model.ckpt-{STEP}.meta")
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, SIDE, SIDE, 3])
        logits = _network(v1, tf, x, False, bfloat16)
        v1.train.Saver().restore(session, str(folder / f"model.ckpt-{STEP}"))
        images = np.random.default_rng(5).random((5, SIDE, SIDE, 3), dtype=np.float32)
        np.savez(folder / "answers.npz", x=images, logits=session.run(logits, {x: images}))
    return folder


def rename_tpu_ops(path: Path) -> None:
    """Gives the TPU's ops of a MetaGraphDef names that nobody has registered; feeds keep theirs."""
    from tensorflow.core.protobuf import meta_graph_pb2

    meta = meta_graph_pb2.MetaGraphDef.FromString(path.read_bytes())
    nodes = [*meta.graph_def.node, *(node for it in meta.graph_def.library.function for node in it.node_def)]
    for node in nodes:
        if _TPU_OPS.match(node.op):
            node.op = f"Npu{node.op}"
    for op in meta.meta_info_def.stripped_op_list.op:
        if _TPU_OPS.match(op.name):
            op.name = f"Npu{op.name}"
    path.write_bytes(meta.SerializeToString())


def _train(v1: Any, tf: Any, folder: Path, loop: str, optimizer: str, bfloat16: bool) -> None:
    from tensorflow.python.ops import gen_tpu_ops
    from tensorflow.python.tpu import tpu, tpu_feed, training_loop

    graph = tf.Graph()
    with graph.as_default():
        v1.set_random_seed(1)
        step = v1.train.get_or_create_global_step()
        v1.tpu.initialize_system()
        examples = (tf.zeros([8, SIDE, SIDE, 3]), tf.zeros([8], tf.int32))
        images, labels = v1.data.make_initializable_iterator(v1.data.Dataset.from_tensors(examples)).get_next()
        queue = tpu_feed.InfeedQueue(number_of_tuple_elements=2)
        queue.generate_enqueue_ops([[images, labels]] * CORES, tpu_ordinal_function=lambda core: core)

        def train_step(*_: Any) -> Any:
            features, targets = queue.generate_dequeue_op()
            logits = _network(v1, tf, features, True, bfloat16)
            loss = tf.reduce_mean(v1.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits))
            inner = v1.train.AdamOptimizer(0.1) if optimizer == "adam" else v1.train.MomentumOptimizer(0.1, 0.9)
            with v1.control_dependencies(v1.get_collection("update_ops")):
                trained = v1.tpu.CrossShardOptimizer(inner).minimize(loss, global_step=step)
            with v1.control_dependencies([trained]):
                sent = gen_tpu_ops.outfeed_enqueue_tuple([tf.reshape(loss, [1])])
            with v1.control_dependencies([sent]):
                return tf.identity(loss)

        repeated = lambda: training_loop.repeat(10, train_step, [tf.constant(1e7)])  # noqa: E731
        tpu.shard(train_step if loop == "none" else repeated, num_shards=CORES)
        saver, initialize = v1.train.Saver(v1.global_variables()), v1.global_variables_initializer()
        options = v1.ConfigProto(graph_options=v1.GraphOptions(place_pruned_graph=True), allow_soft_placement=True)
        with v1.Session(graph=graph, config=options) as session:
            session.run(initialize)
            random = np.random.default_rng(0)
            for variable in v1.global_variables():
                if "moving_mean" in variable.op.name:
                    variable.load(random.normal(0, 0.1, variable.shape).astype(np.float32), session)
                if "moving_variance" in variable.op.name:
                    variable.load(random.uniform(0.5, 1.5, variable.shape).astype(np.float32), session)
            saver.save(session, str(folder / "model.ckpt"), global_step=STEP)


def _network(v1: Any, tf: Any, x: Any, training: bool, bfloat16: bool) -> Any:
    from contextlib import nullcontext

    scope = v1.tpu.bfloat16_scope() if bfloat16 else nullcontext()
    with v1.variable_scope("net", use_resource=True, reuse=v1.AUTO_REUSE), scope:
        x = tf.cast(x, tf.bfloat16) if bfloat16 else x
        for number, filters in enumerate((6, 8)):
            with v1.variable_scope(f"conv{number}"):
                initializer = v1.glorot_uniform_initializer(seed=number)
                kernel = v1.get_variable("kernel", [3, 3, x.shape[-1], filters], x.dtype, initializer)
                x = tf.nn.conv2d(x, kernel, 2, "SAME")
                x = tf.nn.relu(_batch_norm(v1, x, training))
        x = tf.reduce_mean(x, [1, 2])
        if training:
            x = _first_dropout(tf, x, 0.7)
            x = v1.nn.dropout(x, rate=0.3)
            x = tf.nn.experimental.stateless_dropout(x, rate=0.3, seed=[1, 2])
            x = _second_dropout(tf, x, 0.25)
        with v1.variable_scope("dense"):
            kernel = v1.get_variable("kernel", [8, 5], x.dtype, v1.glorot_uniform_initializer(seed=3))
            bias = v1.get_variable("bias", [5], x.dtype, v1.random_uniform_initializer(seed=4))
        return tf.cast(tf.nn.bias_add(tf.matmul(x, kernel), bias), tf.float32)


def _batch_norm(v1: Any, x: Any, training: bool) -> Any:
    channels = x.shape[-1]
    gamma = v1.get_variable("gamma", [channels], initializer=v1.ones_initializer())
    beta = v1.get_variable("beta", [channels], initializer=v1.random_uniform_initializer(-0.1, 0.1, seed=1))
    mean = v1.get_variable("moving_mean", [channels], initializer=v1.zeros_initializer(), trainable=False)
    variance = v1.get_variable("moving_variance", [channels], initializer=v1.ones_initializer(), trainable=False)
    if not training:
        return v1.nn.fused_batch_norm(x, gamma, beta, mean, variance, epsilon=1e-3, is_training=False)[0]
    y, batch_mean, batch_variance = v1.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-3, is_training=True)
    for variable, value in ((mean, batch_mean), (variance, batch_variance)):
        v1.add_to_collection("update_ops", v1.assign_sub(variable, (variable - value) * 0.1))
    return y


def _first_dropout(tf: Any, x: Any, keep: float) -> Any:
    """As TensorFlow 1.0 to 1.12 wrote it."""
    mask = tf.floor(tf.constant(keep, x.dtype) + tf.random.uniform(tf.shape(x), dtype=x.dtype))
    return tf.divide(x, tf.constant(keep, x.dtype)) * mask


def _second_dropout(tf: Any, x: Any, rate: float) -> Any:
    """As TensorFlow 1.13 to 1.15 wrote it."""
    scale = tf.constant(1, x.dtype) / (tf.constant(1, x.dtype) - tf.constant(rate, x.dtype))
    kept = tf.random.uniform(tf.shape(x), dtype=x.dtype) >= tf.constant(rate, x.dtype)
    return (x * scale) * tf.cast(kept, x.dtype)


def exported_for_tpu_only(folder: Path) -> Path:
    """What `export_saved_model` of TensorFlow 1.15 writes, without the graph for other devices."""
    from tensorflow.core.protobuf import saved_model_pb2

    genuine(folder, "exported")
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    kept = [graph for graph in model.meta_graphs if "tpu" in graph.meta_info_def.tags]
    del model.meta_graphs[:]
    model.meta_graphs.extend(kept)
    path.write_bytes(model.SerializeToString())
    return folder
