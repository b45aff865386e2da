"""Import of a TPU training checkpoint as large as ResNet-50's against TensorFlow's own way.

TensorFlow: `import_meta_graph`, `Saver.restore` (with `place_pruned_graph`, without which it fails on a machine without
TPU), and a SavedModel export. That export is still in training form: it does less than the import.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.measuring import measured, medians

BLOCKS = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
ROUNDS = 5


def main(*, reduced: bool = False) -> None:
    with tempfile.TemporaryDirectory() as folder:
        measured("tests.benchmarks.bench_import:build", folder, "1" if reduced else "4")
        sizes = {path.name: path.stat().st_size for path in Path(folder).iterdir()}
        print({name: f"{size / 1e6:.1f} MB" for name, size in sizes.items()})
        ours, theirs = [], []
        for _ in range(2 if reduced else ROUNDS):
            ours.append(measured("tests.benchmarks.bench_import:import_ours", folder))
            theirs.append(measured("tests.benchmarks.bench_import:import_theirs", folder))
        a, b = medians(ours), medians(theirs)
        print(f"tpu2gpu     {a['wall_s']:.2f} s, {a['anon_mib']:.0f} MiB (process {a['process_s']:.1f} s)")
        print(f"TensorFlow  {b['wall_s']:.2f} s, {b['anon_mib']:.0f} MiB (process {b['process_s']:.1f} s)")
        print(f"ratio       {b['wall_s'] / a['wall_s']:.1f} x in time, {b['anon_mib'] / a['anon_mib']:.1f} x in memory")


def prepare() -> None:
    """What either side needs before its clock starts."""
    import tensorflow  # noqa: F401

    import tpu2gpu.checkpoint_importer.importing
    import tpu2gpu.checkpoint_importer.reading  # noqa: F401


def import_ours(folder: str) -> None:
    from tpu2gpu.checkpoint_importer.importing import import_model

    import_model(Path(folder) / "model.ckpt-1", Path(folder) / "ours", force=True)


def import_theirs(folder: str) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    shutil.rmtree(Path(folder) / "theirs", ignore_errors=True)
    options = v1.ConfigProto(graph_options=v1.GraphOptions(place_pruned_graph=True), allow_soft_placement=True)
    with tf.Graph().as_default() as graph, v1.Session(config=options) as session:
        prefix = str(Path(folder) / "model.ckpt-1")
        v1.train.import_meta_graph(f"{prefix}.meta").restore(session, prefix)
        images, logits = graph.get_tensor_by_name("InfeedQueue/dequeue:0"), graph.get_tensor_by_name("logits:0")
        v1.saved_model.simple_save(session, str(Path(folder) / "theirs"), {"images": images}, {"logits": logits})


def build(folder: str, scale: str) -> None:
    """A bottleneck ResNet in a TPU training loop with Momentum slots, 161 variables and 25 million weights in full."""
    import tensorflow as tf
    from tensorflow.python.tpu import tpu, tpu_feed, training_loop

    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    divisor = 4 // int(scale)
    graph = tf.Graph()
    with graph.as_default():
        step = v1.train.get_or_create_global_step()
        examples = (tf.zeros([2, 64, 64, 3]), tf.zeros([2], tf.int32))
        images, labels = v1.data.make_initializable_iterator(v1.data.Dataset.from_tensors(examples)).get_next()
        queue = tpu_feed.InfeedQueue(number_of_tuple_elements=2)
        queue.generate_enqueue_ops([[images, labels]] * 8, tpu_ordinal_function=lambda core: core)

        def train_step(*_: Any) -> Any:
            features, targets = queue.generate_dequeue_op()
            logits = tf.identity(_resnet(v1, tf, features, divisor), name="logits")
            loss = tf.reduce_mean(v1.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits))
            optimizer = v1.tpu.CrossShardOptimizer(v1.train.MomentumOptimizer(0.1, 0.9))
            with v1.control_dependencies(v1.get_collection("update_ops")):
                trained = optimizer.minimize(loss, global_step=step)
            with v1.control_dependencies([trained]):
                return tf.identity(loss)

        tpu.shard(lambda: training_loop.repeat(10, train_step, [tf.constant(1e7)]), num_shards=8)
        saver, initialize = v1.train.Saver(), v1.global_variables_initializer()
        options = v1.ConfigProto(graph_options=v1.GraphOptions(place_pruned_graph=True), allow_soft_placement=True)
        with v1.Session(graph=graph, config=options) as session:
            session.run(initialize)
            saver.save(session, str(Path(folder) / "model.ckpt"), global_step=1)
    print(len(graph.as_graph_def().node), "nodes")


def _resnet(v1: Any, tf: Any, x: Any, divisor: int) -> Any:
    count = 0

    def convolution(x: Any, filters: int, size: int, strides: int) -> Any:
        nonlocal count
        count += 1
        with v1.variable_scope(f"conv{count}", use_resource=True):
            shape, variables = [size, size, x.shape[-1], filters], {}
            kernel = v1.get_variable("kernel", shape, initializer=v1.random_normal_initializer(stddev=0.05))
            for name, start in (("gamma", 1.0), ("beta", 0.0), ("moving_mean", 0.0), ("moving_variance", 1.0)):
                variables[name] = v1.get_variable(
                    name, [filters], initializer=v1.constant_initializer(start), trainable="moving" not in name
                )
            x = tf.nn.conv2d(x, kernel, strides, "SAME")
            y, mean, variance = v1.nn.fused_batch_norm(x, variables["gamma"], variables["beta"], is_training=True)
            for name, value in (("moving_mean", mean), ("moving_variance", variance)):
                update = v1.assign_sub(variables[name], (variables[name] - value) * 0.1)
                v1.add_to_collection("update_ops", update)
            return y

    x = tf.nn.relu(convolution(x, 64 // divisor, 7, 2))
    for filters, blocks, strides in BLOCKS:
        for block in range(blocks):
            narrow, stride = filters // divisor, strides if block == 0 else 1
            shortcut = convolution(x, 4 * narrow, 1, stride) if block == 0 else x
            y = tf.nn.relu(convolution(x, narrow, 1, 1))
            y = tf.nn.relu(convolution(y, narrow, 3, stride))
            x = tf.nn.relu(convolution(y, 4 * narrow, 1, 1) + shortcut)
    with v1.variable_scope("dense", use_resource=True):
        kernel = v1.get_variable("kernel", [x.shape[-1], 1000])
        return tf.matmul(tf.reduce_mean(x, [1, 2]), kernel) + v1.get_variable("bias", [1000])
