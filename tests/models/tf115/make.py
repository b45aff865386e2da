"""Makes genuine TPUEstimator training graphs and exports of TensorFlow 1.15, without a TPU.

A pretended TPU host answers the question for its cores, and a hook saves the graph before any session is made; the
weights come from the same model_fn, trained two steps on CPU (its variables have the same names). Runs under
Python 3.7 only:
    python3.7 -m venv world
    world/bin/pip install tensorflow==1.15.5 tensorflow-estimator==1.15.1 'protobuf<3.21' 'numpy<1.19' 'h5py<3'
    world/bin/python make.py FOLDER [NETWORK]...
Each FOLDER/NETWORK.tar.xz holds a training folder (`checkpoint`, `model.ckpt-2.*`) and `answers.npz`: what
TensorFlow 1.15 itself answers with the same weights (`x`; `logits`; `logits_bfloat16`, in a bfloat16_scope; those
with `_ema`, from the moving averages of the weights). Kernels of bfloat16 have changed since, so the graph that gave
`logits_bfloat16` is there too (`bfloat16.meta`, from `x` to `answer`). Besides the networks there are

    first_format    `plain` saved in the checkpoint format before bundles
    exported        `plain` as `export_saved_model` writes it, with graphs for `serve` and for `serve, tpu`; it takes
                    JPEG strings (`jpegs` in `answers.npz`), and answers with `classes` and `probabilities`
    keras           an embedding and an LSTM in Keras 2, as `export_saved_model` writes it, and as `model.h5`
    phase           a convolution net in Keras 2 as a Saver finds it after `fit`, with `keras_learning_phase`
"""

# ruff: noqa: PTH102, PTH118, PTH120, PTH123, PTH202, PTH208, UP031, RUF005, SIM117
import io
import os
import shutil
import sys
import tarfile
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.contrib import opt as contrib_opt
from tensorflow.contrib import summary as contrib_summary
from tensorflow.contrib import tpu as contrib_tpu
from tensorflow.python.tpu import tpu_system_metadata

CLASSES, BATCH, CORES, SIDE, STEPS, WORDS, LENGTH = 10, 4, 8, 16, 2, 50, 6

# The batch per core is 4, and so are sizes that have nothing to do with it: whoever frees the batch must tell them
# apart.
NETWORKS = {
    "plain": {"optimizer": "momentum", "bfloat16": True, "host_call": True},
    "residual": {"optimizer": "lars", "ema": True, "host_call": True},
    "switched": {"optimizer": "adam"},
    "reshaped": {"optimizer": "momentum", "bfloat16": True},
    "distributed": {"optimizer": "adam", "ema": True},
    "recurrent": {"optimizer": "adam"},
}


def batch_norm(x, training):
    return tf.layers.batch_normalization(x, training=training, fused=True, momentum=0.7)


def convolution(x, filters, strides=1):
    return tf.layers.conv2d(x, filters, 3, strides=strides, padding="same", use_bias=False)


def plain(x, training, on_tpu):
    """Convolutions, batch norm, dropout, dense."""
    for filters in (8, 16):
        x = tf.nn.relu(batch_norm(convolution(x, filters, 2), training))
    x = tf.layers.dropout(tf.reduce_mean(x, [1, 2]), 0.2, training=training)
    return tf.layers.dense(x, CLASSES)


def residual(x, training, on_tpu):
    """Residual blocks with a shared head, called twice."""
    x = tf.nn.relu(batch_norm(convolution(x, 8, 2), training))
    for _ in range(2):
        shortcut = x
        x = tf.nn.relu(batch_norm(convolution(x, 8), training))
        x = batch_norm(convolution(x, 8), training)
        x = tf.nn.relu(x + shortcut)

    def head(features):
        with tf.variable_scope("head", reuse=tf.AUTO_REUSE):
            y = tf.layers.dense(tf.reduce_mean(features, [1, 2]), 12, tf.nn.relu, name="dense")
            y = tf.nn.dropout(y, rate=0.3 if training else 0.0)
            return tf.layers.dense(y, CLASSES, name="logits")

    return head(x) + 0.5 * head(tf.nn.max_pool2d(x, 2, 2, "SAME"))


def switched(x, training, on_tpu):
    """A placeholder decides between training and inference, as in code written for feeding."""
    is_training = tf.placeholder_with_default(training, [], "is_training")
    for filters in (8, 8):
        x = tf.nn.relu(batch_norm(convolution(x, filters, 2), is_training))
    x = tf.layers.dropout(tf.reduce_mean(x, [1, 2]), 0.4, training=is_training)
    return tf.layers.dense(x, CLASSES)


def reshaped(x, training, on_tpu):
    """Sizes that are read from static shapes: upsampling by reshape, tiling, flattening."""
    x = tf.nn.relu(batch_norm(convolution(x, 4, 4), training))
    n, h, w, c = (size if size is not None else -1 for size in x.shape.as_list())
    wide = tf.reshape(x, [n, h, 1, w, 1, c]) * tf.ones([1, 1, 2, 1, 2, 1], x.dtype)
    wide = tf.reshape(wide, [n, h * 2, w * 2, c])
    x = tf.nn.relu(batch_norm(convolution(wide, 4, 4), training))
    flat = tf.reshape(x, [n, 2 * 2 * 4])
    table = tf.get_variable("table", [1, 4], x.dtype, tf.random_normal_initializer())
    rows = tf.tile(table, [n if n > 0 else tf.shape(flat)[0], 1])
    ones = tf.fill([n if n > 0 else tf.shape(flat)[0], 1], tf.constant(0.5, x.dtype))
    return tf.layers.dense(tf.concat([flat, rows, ones, tf.slice(flat, [0, 4], [n, 4])], 1), CLASSES)


def distributed(x, training, on_tpu):
    """Batch norm over all cores, out of single ops."""

    class AcrossCores(tf.layers.BatchNormalization):
        def _moments(self, inputs, axes, keep_dims, **_):
            mean, variance = super()._moments(inputs, axes, keep_dims=keep_dims)
            if not on_tpu:
                return mean, variance
            square = contrib_tpu.cross_replica_sum(variance + tf.square(mean)) / CORES
            mean = contrib_tpu.cross_replica_sum(mean) / CORES
            return mean, square - tf.square(mean)

    for filters in (8, 16):
        x = tf.nn.relu(AcrossCores(fused=False, momentum=0.7)(convolution(x, filters, 2), training=training))
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), CLASSES)


def recurrent(ids, training, on_tpu):
    """An embedding in three parts and an LSTM, whose loop lies inside the training loop."""
    with tf.variable_scope("words", partitioner=tf.fixed_size_partitioner(3)):
        table = tf.get_variable("table", [WORDS, 8], initializer=tf.random_normal_initializer(0, 0.5))
    x = tf.nn.embedding_lookup(tf.convert_to_tensor(table), ids)
    x = tf.nn.dropout(x, rate=0.1) if training else x
    cell = tf.nn.rnn_cell.LSTMCell(12)
    states, _ = tf.nn.dynamic_rnn(cell, tf.transpose(x, [1, 0, 2]), dtype=x.dtype, time_major=True)
    return tf.layers.dense(tf.reduce_max(states, 0), CLASSES)


def forward(name, x, training, on_tpu, in_bfloat16):
    network = globals()[name]
    if not in_bfloat16:
        return network(x, training, on_tpu)
    with contrib_tpu.bfloat16_scope():
        return tf.cast(network(tf.cast(x, tf.bfloat16), training, on_tpu), tf.float32)


def model_fn(features, labels, mode, params):
    about = NETWORKS[params["network"]]
    on_tpu, training = params["on_tpu"], mode == tf.estimator.ModeKeys.TRAIN
    logits = forward(params["network"], features, training, on_tpu, on_tpu and about.get("bfloat16", False))
    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {"classes": tf.argmax(logits, 1), "probabilities": tf.nn.softmax(logits)}
        return contrib_tpu.TPUEstimatorSpec(
            mode, predictions=predictions, export_outputs={"classify": tf.estimator.export.PredictOutput(predictions)}
        )
    loss = tf.losses.softmax_cross_entropy(tf.one_hot(labels, CLASSES), logits, label_smoothing=0.1)
    loss += 1e-4 * tf.add_n([tf.nn.l2_loss(v) for v in tf.trainable_variables() if "normalization" not in v.name])
    step = tf.train.get_global_step()
    rate = tf.train.exponential_decay(0.05, step, 100, 0.9)
    optimizer = {
        "momentum": lambda: tf.train.MomentumOptimizer(rate, 0.9, use_nesterov=True),
        "adam": lambda: tf.train.AdamOptimizer(rate),
        "lars": lambda: contrib_opt.LARSOptimizer(rate, momentum=0.9, skip_list=["batch_normalization", "bias"]),
    }[about["optimizer"]]()
    if on_tpu:
        optimizer = contrib_tpu.CrossShardOptimizer(optimizer)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.minimize(loss, step)
    if about.get("ema"):
        averages = tf.train.ExponentialMovingAverage(0.5, step)
        with tf.control_dependencies([train_op]), tf.name_scope("moving_average"):
            train_op = averages.apply(averaged_variables())
    host_call = None
    if about.get("host_call") and on_tpu:
        host_call = (write_summaries, [tf.reshape(step, [1]), tf.reshape(loss, [1]), tf.reshape(rate, [1])])
    return contrib_tpu.TPUEstimatorSpec(mode, loss=loss, train_op=train_op, host_call=host_call)


def averaged_variables():
    return tf.trainable_variables() + [v for v in tf.global_variables() if "moving_" in v.name]


def write_summaries(step, loss, rate):
    with contrib_summary.create_file_writer(tempfile.gettempdir(), max_queue=100).as_default():
        with contrib_summary.always_record_summaries():
            contrib_summary.scalar("loss", loss[0], step=step[0])
            contrib_summary.scalar("rate", rate[0], step=step[0])
            return contrib_summary.all_summary_ops()


def is_text(name):
    return name == "recurrent"


def input_fn(params):
    def example(number):
        number = tf.cast(number, tf.float32)
        label = tf.cast(number % CLASSES, tf.int32)
        if is_text(params["network"]):
            return tf.cast(tf.range(LENGTH, dtype=tf.float32) * 7 + number * 3, tf.int32) % WORDS, label
        places = tf.reshape(tf.range(SIDE * SIDE * 3, dtype=tf.float32), [SIDE, SIDE, 3])
        return tf.sin(places * (0.1 + 0.01 * number)) * 2 + 0.5, label

    return tf.data.Dataset.range(64).map(example).repeat().batch(params["batch_size"], drop_remainder=True)


class GraphSavedError(Exception):
    """The graph has been saved."""


class SaveGraph(tf.train.SessionRunHook):
    def __init__(self, path):
        self._path = path

    def begin(self):
        tf.train.Saver(tf.global_variables(), sharded=True)
        tf.train.export_meta_graph(self._path, clear_devices=False)
        raise GraphSavedError


def estimator(name, folder, on_tpu):
    tpu_config = contrib_tpu.TPUConfig(
        iterations_per_loop=100,
        num_shards=CORES if on_tpu else None,
        per_host_input_for_training=contrib_tpu.InputPipelineConfig.PER_HOST_V2,
    )
    config = contrib_tpu.RunConfig(
        master="grpc://tpu:8470" if on_tpu else "", model_dir=folder, save_checkpoints_steps=STEPS,
        tf_random_seed=1, tpu_config=tpu_config,
    )  # fmt: skip
    return contrib_tpu.TPUEstimator(
        model_fn, config=config, use_tpu=on_tpu, train_batch_size=BATCH * (CORES if on_tpu else 1),
        eval_batch_size=BATCH * CORES, predict_batch_size=BATCH * CORES, params={"network": name, "on_tpu": on_tpu},
    )  # fmt: skip


def answer(name, prefix, x, in_bfloat16, ema):
    with tf.Graph().as_default(), tf.Session() as session:
        given = tf.placeholder(x.dtype, [None] + list(x.shape[1:]), "x")
        logits = tf.identity(forward(name, given, False, False, in_bfloat16), "answer")
        names = None
        if ema:
            names = tf.train.ExponentialMovingAverage(0.5).variables_to_restore(averaged_variables())
        tf.train.Saver(names).restore(session, prefix)
        if in_bfloat16:
            tf.train.export_meta_graph(os.path.join(os.path.dirname(prefix), "bfloat16.meta"))
        return session.run(logits, {given: x})


def train_on_cpu(name):
    folder = tempfile.mkdtemp()
    estimator(name, os.path.join(folder, "cpu"), on_tpu=False).train(input_fn, max_steps=STEPS)
    return folder


def make(name, target):
    folder = train_on_cpu(name)
    try:
        hooks = [SaveGraph(os.path.join(folder, "tpu.meta"))]
        estimator(name, os.path.join(folder, "tpu"), on_tpu=True).train(input_fn, max_steps=100, hooks=hooks)
    except GraphSavedError:
        pass
    prefix = os.path.join(folder, "cpu", "model.ckpt-%d" % STEPS)
    shutil.move(os.path.join(folder, "tpu.meta"), prefix + ".meta")
    random = np.random.RandomState(5)
    x = random.randn(6, SIDE, SIDE, 3).astype(np.float32)
    if is_text(name):
        x = random.randint(0, WORDS, (6, LENGTH)).astype(np.int32)
    answers = {"x": x, "logits": answer(name, prefix, x, False, False)}
    if NETWORKS[name].get("bfloat16"):
        answers["logits_bfloat16"] = answer(name, prefix, x, True, False)
    if NETWORKS[name].get("ema"):
        answers["logits_ema"] = answer(name, prefix, x, False, True)
    np.savez(os.path.join(folder, "cpu", "answers.npz"), **answers)
    write_archive(os.path.join(target, name + ".tar.xz"), os.path.join(folder, "cpu"), [
        file for file in sorted(os.listdir(os.path.join(folder, "cpu")))
        if file in ("answers.npz", "bfloat16.meta") or file.startswith("model.ckpt-%d." % STEPS)
    ])  # fmt: skip
    shutil.rmtree(folder)


def make_first_format(target):
    folder = train_on_cpu("plain")
    cpu = os.path.join(folder, "cpu")
    prefix = os.path.join(cpu, "model.ckpt-%d" % STEPS)
    first = os.path.join(folder, "first")
    os.mkdir(first)
    with tf.Graph().as_default(), tf.Session() as session:
        given = tf.placeholder(tf.float32, [None, SIDE, SIDE, 3], "image")
        logits = forward("plain", given, False, False, False)
        tf.train.Saver().restore(session, prefix)
        tf.identity(logits, "logits")
        saver = tf.train.Saver(write_version=tf.train.SaverDef.V1)
        saver.save(session, os.path.join(first, "model.ckpt"), global_step=STEPS)
        x = np.random.RandomState(5).randn(6, SIDE, SIDE, 3).astype(np.float32)
        np.savez(os.path.join(first, "answers.npz"), x=x, logits=session.run(logits, {given: x}))
    names = ["answers.npz", "model.ckpt-%d" % STEPS, "model.ckpt-%d.meta" % STEPS]
    write_archive(os.path.join(target, "first_format.tar.xz"), first, names)
    shutil.rmtree(folder)


def make_exported(target):
    folder = train_on_cpu("plain")

    def receiver():
        jpegs = tf.placeholder(tf.string, [None], "jpegs")

        def decode(jpeg):
            image = tf.image.decode_jpeg(jpeg, 3)
            return tf.reshape(tf.cast(image, tf.float32) / 127.5 - 1, [SIDE, SIDE, 3])

        images = tf.map_fn(decode, jpegs, tf.float32)
        return tf.estimator.export.TensorServingInputReceiver(images, {"jpegs": jpegs})

    made = estimator("plain", os.path.join(folder, "cpu"), on_tpu=False)
    path = made.export_saved_model(os.path.join(folder, "export"), receiver).decode()
    random = np.random.RandomState(6)
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.constant(random.randint(0, 256, (5, SIDE, SIDE, 3)), tf.uint8)
        jpegs = np.array(session.run([tf.io.encode_jpeg(images[i]) for i in range(5)]), object)
    with tf.Graph().as_default(), tf.Session() as session:
        signature = tf.saved_model.load(session, ["serve"], path).signature_def["serving_default"]
        names = {key: info.name for key, info in signature.outputs.items()}
        answers = session.run(names, {signature.inputs["jpegs"].name: jpegs})
    np.savez(os.path.join(path, "answers.npz"), jpegs=np.array(jpegs, "S2000"), **answers)
    files = [
        os.path.relpath(os.path.join(root, file), path) for root, _, files in os.walk(path) for file in sorted(files)
    ]
    write_archive(os.path.join(target, "exported.tar.xz"), path, sorted(files))
    shutil.rmtree(folder)


def make_keras(target):
    folder = tempfile.mkdtemp()
    with tf.Graph().as_default(), tf.Session():
        keras = tf.keras
        words = keras.layers.Input([LENGTH], dtype="int32", name="words")
        y = keras.layers.LSTM(7)(keras.layers.Embedding(WORDS, 5)(words))
        y = keras.layers.Dropout(0.3)(keras.layers.BatchNormalization(momentum=0.5)(y))
        model = keras.Model(words, keras.layers.Dense(3, name="scores")(y))
        model.compile("adam", "mse")
        random = np.random.RandomState(3)
        x = random.randint(0, WORDS, [16, LENGTH])
        model.fit(x, random.randn(16, 3), verbose=0, epochs=2)
        keras.experimental.export_saved_model(model, os.path.join(folder, "model"))
        np.savez(os.path.join(folder, "model", "answers.npz"), x=x[:5], scores=model.predict(x[:5]))
        model.save(os.path.join(folder, "model", "model.h5"))
    path = os.path.join(folder, "model")
    files = [os.path.relpath(os.path.join(root, file), path) for root, _, names in os.walk(path) for file in names]
    write_archive(os.path.join(target, "keras.tar.xz"), path, sorted(files))
    shutil.rmtree(folder)


def make_phase(target):
    folder = tempfile.mkdtemp()
    with tf.Graph().as_default(), tf.Session() as session:
        keras = tf.keras
        keras.backend.set_session(session)
        image = keras.layers.Input([SIDE, SIDE, 3], name="image")
        y = keras.layers.Conv2D(4, 3, strides=4, activation="relu")(image)
        y = keras.layers.Dropout(0.3)(keras.layers.BatchNormalization(momentum=0.5)(y))
        model = keras.Model(image, keras.layers.Dense(CLASSES, name="scores")(keras.layers.Flatten()(y)))
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        random = np.random.RandomState(3)
        x = random.randn(16, SIDE, SIDE, 3).astype(np.float32)
        model.fit(x, random.randint(0, CLASSES, 16), verbose=0, epochs=2)
        tf.train.Saver().save(session, os.path.join(folder, "model.ckpt"), global_step=STEPS)
        np.savez(os.path.join(folder, "answers.npz"), x=x[:5], logits=model.predict(x[:5]))
    names = ["answers.npz"] + ["model.ckpt-%d.%s" % (STEPS, it) for it in ("meta", "index", "data-00000-of-00001")]
    write_archive(os.path.join(target, "phase.tar.xz"), folder, names)
    shutil.rmtree(folder)


def write_archive(path, folder, files):
    """Without times and owners, so that the same files give the same archive."""
    with tarfile.open(path, "w:xz", preset=9) as archive:
        text = b'model_checkpoint_path: "model.ckpt-%d"\n' % STEPS
        entry = tarfile.TarInfo("checkpoint")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
        for file in files:
            full = os.path.join(folder, file)
            entry = tarfile.TarInfo(file)
            entry.size = os.path.getsize(full)
            with open(full, "rb") as data:
                archive.addfile(entry, data)


def pretended_host(*_, **__):
    return tpu_system_metadata._TPUSystemMetadata(
        num_cores=CORES, num_hosts=1, num_of_cores_per_host=CORES, topology=None, devices=[]
    )


def main():
    tf.logging.set_verbosity(tf.logging.ERROR)
    tpu_system_metadata._query_tpu_system_metadata = pretended_host
    others = {
        "first_format": make_first_format, "exported": make_exported, "keras": make_keras, "phase": make_phase,
    }  # fmt: skip
    for name in sys.argv[2:] or [*NETWORKS, *others]:
        if name in others:
            others[name](sys.argv[1])
        else:
            make(name, sys.argv[1])
        print(name, os.path.getsize(os.path.join(sys.argv[1], name + ".tar.xz")), "bytes")


if __name__ == "__main__":
    main()
