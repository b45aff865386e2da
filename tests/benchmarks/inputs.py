"""What is cast, frozen and imported: made by seeded code, each function in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_BLOCKS = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))


def make_checkpoint(prefix: str, scale: str) -> None:
    """Write float32 weights of an embedding, 16 transformer layers and 53 convolutions; a scale of 1 is 2 GB.

    The same weights are repeated, which nothing here can notice.
    """
    from tpu2gpu.tensorbundle.format import DTYPE_ENUMS
    from tpu2gpu.tensorbundle.writer import BundleWriter

    Path(prefix).parent.mkdir(parents=True)
    base = np.random.default_rng(0).standard_normal(1 << 22, np.float32) * 0.02

    share = float(scale) ** 0.5

    def chunks(count: int) -> Any:
        for start in range(0, count, base.size):
            yield base[: min(base.size, count - start)].view(np.uint8).data

    width = int(1024 * share) // 8 * 8 or 8
    shapes: dict[str, tuple[int, ...]] = {"embedding/table": (int(262144 * share), width)}
    for layer in range(16):
        for name in "qkvo":
            shapes[f"layer_{layer}/{name}/kernel"], shapes[f"layer_{layer}/{name}/bias"] = (width, width), (width,)
        shapes[f"layer_{layer}/inner/kernel"] = (width, 4 * width)
        shapes[f"layer_{layer}/outer/kernel"] = (4 * width, width)
        shapes[f"layer_{layer}/norm/gamma"] = (width,)
    for number in range(53):
        channels = max(8, width >> (3 - number // 14))
        shapes[f"conv_{number}/kernel"] = (3, 3, channels // 2, channels // 2)
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"norm_{number}/{name}"] = (channels // 2,)
    with BundleWriter(Path(prefix), shard_bytes=256 << 20) as writer:
        for key, shape in sorted(shapes.items()):
            writer.add(key, DTYPE_ENUMS[base.dtype.name], shape, chunks(int(np.prod(shape))))
        writer.add_array("global_step", np.array(7))


def make_dense(folder: str, width: str, layers: str) -> None:
    """Write a model of dense layers: `x` [?, width] through `layers` matrices of [width, width]."""
    import tensorflow as tf

    size, module = int(width), tf.Module()
    generator = tf.random.Generator.from_seed(1)
    module.kernels = [tf.Variable(generator.normal([size, size]) / size**0.5) for _ in range(int(layers))]

    @tf.function(input_signature=[tf.TensorSpec([None, size], tf.float32, name="x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        for kernel in module.kernels:
            x = tf.nn.relu(tf.matmul(x, kernel))
        return {"y": x}

    tf.saved_model.save(module, folder, signatures=serve)


def make_frozen(folder: str, width: str, layers: str) -> None:
    """Freeze such a model."""
    from tpu2gpu.freezer.freezing import freeze_model
    from tpu2gpu.freezer.options import FreezeOptions

    make_dense(f"{folder}.model", width, layers)
    freeze_model(f"{folder}.model", folder, FreezeOptions(format="graph_def"))


def make_resnet(folder: str, divisor: str) -> None:
    """Write the checkpoint of a bottleneck ResNet in a TPU training loop, with Momentum slots.

    In full, with a divisor of 1, it has 161 variables and 25 million weights.
    """
    import tensorflow as tf
    from tensorflow.python.tpu import tpu, tpu_feed, training_loop

    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    graph = tf.Graph()
    with graph.as_default():
        step = v1.train.get_or_create_global_step()
        examples = (tf.zeros([2, 64, 64, 3]), tf.zeros([2], tf.int32))
        images, labels = v1.data.make_initializable_iterator(v1.data.Dataset.from_tensors(examples)).get_next()
        queue = tpu_feed.InfeedQueue(number_of_tuple_elements=2)
        queue.generate_enqueue_ops([[images, labels]] * 8, tpu_ordinal_function=lambda core: core)

        def train_step(*_: Any) -> Any:
            features, targets = queue.generate_dequeue_op()
            logits = tf.identity(_resnet(v1, tf, features, int(divisor)), name="logits")
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
    for filters, blocks, strides in _BLOCKS:
        for block in range(blocks):
            narrow, stride = filters // divisor, strides if block == 0 else 1
            shortcut = convolution(x, 4 * narrow, 1, stride) if block == 0 else x
            y = tf.nn.relu(convolution(x, narrow, 1, 1))
            y = tf.nn.relu(convolution(y, narrow, 3, stride))
            x = tf.nn.relu(convolution(y, 4 * narrow, 1, 1) + shortcut)
    with v1.variable_scope("dense", use_resource=True):
        kernel = v1.get_variable("kernel", [x.shape[-1], 1000])
        return tf.matmul(tf.reduce_mean(x, [1, 2]), kernel) + v1.get_variable("bias", [1000])
