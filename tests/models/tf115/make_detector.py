"""Makes a detector as they were trained on TPUs in the days of TensorFlow 1.15: RetinaNet's form, small, and trained.

A feature pyramid whose levels are upsampled by reshapes with the static batch, heads that all levels share with batch
norms of their own, anchors, sigmoids, per-class non-max suppression, JPEG strings in. It is trained on rectangles in
three colours until it finds them, in about two minutes of one core. Runs where `make.py` does:
    world/bin/python make_detector.py FOLDER [TRAINED]
writes to FOLDER, from the training folder TRAINED where that holds one that is done,

    detector.tar.xz             a training folder with the training graph for TPU (infeed, loops, bfloat16_scope,
                                momentum, a batch of 4 for each core), and what 1.15 answers to 5 images `pixels`
                                once they are normalised: `logits`, `codes` (boxes as the heads give them)
    detector_exported.tar.xz    what `export_saved_model` writes, in two folders: `per_class` suppresses by a loop over
                                examples with a suppression for each class, `combined` by the operation for all.
                                `answers.npz` holds `jpegs`, and what 1.15 answers to the first 1, 3 and 5 of them:
                                `combined_5_boxes`
"""

# ruff: noqa: PTH118, PTH202, UP031, B905
import os
import shutil
import sys
import tempfile

import make
import numpy as np
import tensorflow.compat.v1 as tf
from make import BATCH, CORES, GraphSavedError, SaveGraph, batch_norm, pretended_host, write_archive
from tensorflow.contrib import tpu as contrib_tpu
from tensorflow.python.tpu import tpu_system_metadata

SIDE, CLASSES, OBJECTS, DETECTIONS, STEPS = 64, 3, 2, 10, 700
LEVELS, ASPECTS, DEPTH = (3, 4, 5), (0.5, 1.0, 2.0), 8
COLOURS = ((0.9, 0.1, 0.1), (0.1, 0.8, 0.2), (0.1, 0.2, 0.9))
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCHES, THRESHOLD = (1, 3, 5), 0.15


def anchors():
    """All anchors of all levels, [anchors, 4]: ymin, xmin, ymax, xmax in pixels."""
    found = []
    for level in LEVELS:
        stride = 2**level
        for y in range(SIDE // stride):
            for x in range(SIDE // stride):
                for aspect in ASPECTS:
                    half = np.array([aspect**0.5, aspect**-0.5]) * stride
                    centre = (np.array([y, x]) + 0.5) * stride
                    found.append(np.concatenate([centre - half, centre + half]))
    return np.array(found, np.float32)


def fixed_padding(x, filters, size, strides):
    """A convolution whose padding does not depend on the size of what it is given."""
    if strides > 1:
        before = (size - 1) // 2
        x = tf.pad(x, [[0, 0], [before, size - 1 - before], [before, size - 1 - before], [0, 0]])
    padding = "SAME" if strides == 1 else "VALID"
    return tf.layers.conv2d(x, filters, size, strides, padding, use_bias=False)


def block(x, filters, strides, training):
    shortcut = batch_norm(fixed_padding(x, filters, 1, strides), training)
    x = tf.nn.relu(batch_norm(fixed_padding(x, filters, 3, strides), training))
    x = batch_norm(fixed_padding(x, filters, 3, 1), training)
    return tf.nn.relu(x + shortcut)


def nearest_upsampling(x):
    batch, height, width, depth = x.get_shape().as_list()
    batch = -1 if batch is None else batch
    x = tf.reshape(x, [batch, height, 1, width, 1, depth]) * tf.ones([1, 1, 2, 1, 2, 1], x.dtype)
    return tf.reshape(x, [batch, height * 2, width * 2, depth])


def pyramid(x, training):
    """Features of each level, {level: [batch, height, width, depth]}."""
    x = tf.nn.relu(batch_norm(fixed_padding(x, 6, 3, 2), training))
    levels = {}
    for level, filters in zip((2, 3, 4, 5), (6, 8, 10, 12)):
        levels[level] = x = block(x, filters, 2, training)
    features = {level: tf.layers.conv2d(levels[level], DEPTH, 1, name="l%d" % level) for level in LEVELS}
    for level in (4, 3):
        features[level] += nearest_upsampling(features[level + 1])
    return {
        level: batch_norm(tf.layers.conv2d(features[level], DEPTH, 3, padding="same", name="p%d" % level), training)
        for level in LEVELS
    }


def head(name, features, depth, bias, training):
    """One head over all levels, [batch, anchors, depth]: shared convolutions, batch norms for each level."""
    found = []
    for level in LEVELS:
        x = features[level]
        with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
            for layer in range(2):
                x = tf.layers.conv2d(x, DEPTH, 3, padding="same", name="%s-%d" % (name, layer))
                x = tf.layers.batch_normalization(
                    x, training=training, fused=True, momentum=0.7, name="%s-%d-bn-%d" % (name, layer, level)
                )
                x = tf.nn.relu(x)
            initializer = tf.constant_initializer(bias)
            x = tf.layers.conv2d(
                x, depth * len(ASPECTS), 3, padding="same", bias_initializer=initializer, name="%s-predict" % name
            )
        batch, height, width, _ = x.get_shape().as_list()
        x = tf.reshape(x, [-1 if batch is None else batch, height * width * len(ASPECTS), depth])
        found.append(tf.cast(x, tf.float32))
    return tf.concat(found, 1)


def network(images, training, in_bfloat16):
    """Class logits [batch, anchors, classes] and box codes [batch, anchors, 4]."""

    def heads(x):
        features = pyramid(x, training)
        return head("class", features, CLASSES, -np.log(99.0), training), head("box", features, 4, 0.0, training)

    if not in_bfloat16:
        return heads(images)
    with contrib_tpu.bfloat16_scope():
        return heads(tf.cast(images, tf.bfloat16))


def decode(codes):
    """Boxes in pixels, [batch, anchors, 4]."""
    known = anchors()
    sizes = known[:, 2:] - known[:, :2]
    centres = codes[..., :2] * sizes + (known[:, :2] + known[:, 2:]) / 2
    halves = tf.exp(tf.minimum(codes[..., 2:], 4.0)) * sizes / 2
    return tf.clip_by_value(tf.concat([centres - halves, centres + halves], -1), 0.0, SIDE)


def suppress_per_class(boxes, scores):
    """Suppress class by class, example by example."""

    def one(given):
        boxes, scores = given
        found = []
        for number in range(CLASSES):
            places = tf.image.non_max_suppression(boxes, scores[:, number], DETECTIONS, 0.5, THRESHOLD)
            rest = DETECTIONS - tf.shape(places)[0]
            kept = tf.pad(tf.gather(boxes, places), [[0, rest], [0, 0]])
            values = tf.pad(tf.gather(scores[:, number], places), [[0, rest]])
            found.append((kept, values, tf.fill([DETECTIONS], float(number))))
        boxes, scores, classes = (tf.concat(each, 0) for each in zip(*found))
        best, places = tf.nn.top_k(scores, DETECTIONS)
        valid = tf.reduce_sum(tf.cast(best > 0.0, tf.int32))
        classes = tf.where(best > 0.0, tf.gather(classes, places), tf.zeros_like(best))
        return tf.gather(boxes, places), best, classes, valid

    return tf.map_fn(one, (boxes, scores), (tf.float32, tf.float32, tf.float32, tf.int32))


def suppress_combined(boxes, scores):
    """Suppress all at once."""
    return tf.image.combined_non_max_suppression(
        boxes[:, :, None], scores, DETECTIONS, DETECTIONS, 0.5, THRESHOLD, clip_boxes=False
    )


def detections(logits, codes, scales, suppress):
    boxes, scores, classes, valid = suppress(decode(codes), tf.sigmoid(logits))
    return {
        "detection_boxes": boxes / scales[:, None, None],
        "detection_scores": scores,
        "detection_classes": classes + 1,
        "num_detections": valid,
    }


def focal_loss(logits, kinds, positives):
    wanted = tf.one_hot(kinds, CLASSES)
    cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=logits)
    right = tf.sigmoid(logits) * wanted + (1 - tf.sigmoid(logits)) * (1 - wanted)
    weight = tf.pow(1 - right, 1.5) * (0.25 * wanted + 0.75 * (1 - wanted))
    counted = tf.cast(tf.not_equal(kinds, -2), tf.float32)
    return tf.reduce_sum(weight * cross * counted[..., None]) / positives


def model_fn(features, labels, mode, params):
    training = mode == tf.estimator.ModeKeys.TRAIN
    images = features if training else features["images"]
    logits, codes = network(images, training, params["on_tpu"])
    if not training:
        suppress = suppress_combined if params["combined"] else suppress_per_class
        predictions = detections(logits, codes, features["scales"], suppress)
        exported = {"serving_default": tf.estimator.export.PredictOutput(predictions)}
        return contrib_tpu.TPUEstimatorSpec(mode, predictions=predictions, export_outputs=exported)
    positives = tf.reduce_sum(labels["positives"]) + 1.0
    loss = focal_loss(logits, labels["kinds"], positives)
    matched = tf.cast(labels["kinds"] >= 0, tf.float32)[..., None]
    loss += 5.0 * tf.losses.huber_loss(labels["codes"], codes, matched, delta=0.1, reduction="weighted_sum") / positives
    loss += 1e-5 * tf.add_n([tf.nn.l2_loss(v) for v in tf.trainable_variables() if "kernel" in v.name])
    step = tf.train.get_global_step()
    rate = tf.train.cosine_decay(0.03, step, STEPS)
    optimizer = tf.train.MomentumOptimizer(rate, 0.9)
    if params["on_tpu"]:
        optimizer = contrib_tpu.CrossShardOptimizer(optimizer)
    gradients, variables = zip(*optimizer.compute_gradients(loss))
    gradients, _ = tf.clip_by_global_norm(gradients, 5.0)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.apply_gradients(list(zip(gradients, variables)), step)
    return contrib_tpu.TPUEstimatorSpec(mode, loss=loss, train_op=train_op)


def draw(number, height=SIDE, width=SIDE):
    """A grey slope with rectangles: the image [height, width, 3], boxes [objects, 4], their kinds [objects]."""
    random = tf.random.stateless_uniform([OBJECTS, 5], [number, 7])
    size = tf.constant([height, width], tf.float32)
    extents = (0.22 + 0.3 * random[:, 2:4]) * size
    starts = random[:, :2] * (size - extents)
    boxes = tf.concat([starts, starts + extents], 1)
    kinds = tf.cast(random[:, 4] * CLASSES, tf.int32)
    y, x = (tf.range(edge, dtype=tf.float32) for edge in (height, width))
    image = (0.3 + 0.2 * y[:, None, None] / height + 0.2 * x[None, :, None] / width) * tf.ones([1, 1, 3])
    image += 0.06 * (tf.random.stateless_uniform([height, width, 3], [number, 8]) - 0.5)
    for place in range(OBJECTS):
        low, high = boxes[place, :2], boxes[place, 2:]
        rows, columns = (tf.cast((edge >= low[at]) & (edge < high[at]), tf.float32) for at, edge in enumerate((y, x)))
        inside = rows[:, None] * columns
        image += inside[:, :, None] * (tf.gather(tf.constant(COLOURS), kinds[place]) - image)
    return tf.clip_by_value(image, 0.0, 1.0), boxes, kinds


def matched(boxes, kinds):
    """For each anchor the kind of its object (-1: none, -2: not counted) and the code of its box."""
    known = tf.constant(anchors())[:, None]
    shared = tf.maximum(tf.minimum(known[..., 2:], boxes[:, 2:]) - tf.maximum(known[..., :2], boxes[:, :2]), 0.0)
    both = tf.reduce_prod(shared, -1)
    areas = tf.reduce_prod(known[..., 2:] - known[..., :2], -1) + tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], -1)
    overlaps = both / (areas - both)
    best, owner = tf.reduce_max(overlaps, 1), tf.argmax(overlaps, 1)
    best_of_box = tf.reduce_any(overlaps >= tf.reduce_max(overlaps, 0), 1)
    none = tf.where(best < 0.4, -tf.ones_like(owner), -2 * tf.ones_like(owner))
    found = tf.where((best >= 0.5) | best_of_box, tf.gather(kinds, owner), tf.cast(none, tf.int32))
    mine, known = tf.gather(boxes, owner), known[:, 0]
    sizes = known[:, 2:] - known[:, :2]
    centres = ((mine[:, :2] + mine[:, 2:]) - (known[:, :2] + known[:, 2:])) / 2 / sizes
    return found, tf.concat([centres, tf.log((mine[:, 2:] - mine[:, :2]) / sizes)], 1)


def input_fn(params):
    def example(number):
        image, boxes, kinds = draw(number)
        found, codes = matched(boxes, kinds)
        labels = {"kinds": found, "codes": codes, "positives": tf.reduce_sum(tf.cast(found >= 0, tf.float32))}
        return (image - MEAN) / DEVIATION, labels

    data = tf.data.Dataset.range(1000).map(example).cache().repeat()
    return data.batch(params["batch_size"], drop_remainder=True)


def estimator(folder, on_tpu, combined=False):
    tpu_config = contrib_tpu.TPUConfig(
        iterations_per_loop=100, num_shards=CORES if on_tpu else None,
        per_host_input_for_training=contrib_tpu.InputPipelineConfig.PER_HOST_V2,
    )  # fmt: skip
    config = contrib_tpu.RunConfig(
        master="grpc://tpu:8470" if on_tpu else "", model_dir=folder, save_checkpoints_steps=STEPS, tf_random_seed=1,
        tpu_config=tpu_config, session_config=tf.ConfigProto(intra_op_parallelism_threads=1),
    )  # fmt: skip
    return contrib_tpu.TPUEstimator(
        model_fn, config=config, use_tpu=on_tpu, train_batch_size=BATCH * CORES if on_tpu else 8,
        predict_batch_size=BATCH * CORES, export_to_tpu=False, params={"on_tpu": on_tpu, "combined": combined},
    )  # fmt: skip


def receiver():
    """JPEG strings: decoded, resized with their aspect kept, padded and normalised."""
    jpegs = tf.placeholder(tf.string, [None], "jpegs")

    def prepared(jpeg):
        image = tf.image.convert_image_dtype(tf.image.decode_jpeg(jpeg, 3), tf.float32)
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        scale = SIDE / tf.reduce_max(size)
        image = tf.image.resize_images(image, tf.cast(tf.round(size * scale), tf.int32))
        image = tf.image.pad_to_bounding_box((image - MEAN) / DEVIATION, 0, 0, SIDE, SIDE)
        image.set_shape([SIDE, SIDE, 3])
        return image, scale

    images, scales = tf.map_fn(prepared, jpegs, (tf.float32, tf.float32), back_prop=False)
    return tf.estimator.export.ServingInputReceiver({"images": images, "scales": scales}, {"jpegs": jpegs})


def draw_jpegs():
    with tf.Graph().as_default(), tf.Session() as session:
        sizes = [(96, 80), (64, 64), (50, 90), (120, 100), (77, 61)]
        images = [draw(2000 + place, *size)[0] for place, size in enumerate(sizes)]
        encoded = [
            tf.io.encode_jpeg(tf.image.convert_image_dtype(image, tf.uint8, True), quality=85) for image in images
        ]
        return np.array(session.run(encoded), object)


def normalised(pixels):
    return ((pixels / 255.0 - MEAN) / DEVIATION).astype(np.float32)


def answers_of(path, jpegs):
    with tf.Graph().as_default(), tf.Session() as session:
        signature = tf.saved_model.load(session, ["serve"], path).signature_def["serving_default"]
        names = {key: info.name for key, info in signature.outputs.items()}
        return {
            "%d_%s" % (count, key): value
            for count in BATCHES
            for key, value in session.run(names, {signature.inputs["jpegs"].name: jpegs[:count]}).items()
        }


def files_under(path):
    return sorted(os.path.relpath(os.path.join(root, file), path) for root, _, names in os.walk(path) for file in names)


def write_training(target, folder):
    prefix = os.path.join(folder, "cpu", "model.ckpt-%d" % STEPS)
    try:
        hooks = [SaveGraph(prefix + ".meta")]
        estimator(tempfile.mkdtemp(), True).train(input_fn, max_steps=100, hooks=hooks)
    except GraphSavedError:
        pass
    with tf.Graph().as_default(), tf.Session() as session:
        drawn = [tf.image.convert_image_dtype(draw(3000 + at)[0], tf.uint8, True) for at in range(max(BATCHES))]
        pixels = np.stack(session.run(drawn))
    with tf.Graph().as_default(), tf.Session() as session:
        given = tf.placeholder(tf.float32, [None, SIDE, SIDE, 3])
        heads = network(given, False, False)
        tf.train.Saver().restore(session, prefix)
        logits, codes = session.run(heads, {given: normalised(pixels)})
    np.savez_compressed(os.path.join(folder, "cpu", "answers.npz"), pixels=pixels, logits=logits, codes=codes)
    names = ["model.ckpt-%d.%s" % (STEPS, it) for it in ("meta", "index", "data-00000-of-00001")]
    write_archive(os.path.join(target, "detector.tar.xz"), os.path.join(folder, "cpu"), ["answers.npz", *names])


def write_exported(target, folder):
    exported, answers = tempfile.mkdtemp(), {"jpegs": draw_jpegs()}
    for name in ("combined", "per_class"):
        made = estimator(os.path.join(folder, "cpu"), False, name == "combined")
        path = made.export_saved_model(tempfile.mkdtemp(), receiver).decode()
        answers.update({"%s_%s" % (name, key): value for key, value in answers_of(path, answers["jpegs"]).items()})
        shutil.move(path, os.path.join(exported, name))
    answers["jpegs"] = np.array(answers["jpegs"], "S8000")
    np.savez_compressed(os.path.join(exported, "answers.npz"), **answers)
    write_archive(os.path.join(target, "detector_exported.tar.xz"), exported, files_under(exported))


def main():
    tf.logging.set_verbosity(tf.logging.INFO)
    tpu_system_metadata._query_tpu_system_metadata = pretended_host
    make.STEPS = STEPS  # which `checkpoint` in the archives names
    folder = sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()
    estimator(os.path.join(folder, "cpu"), False).train(input_fn, max_steps=STEPS)
    write_training(sys.argv[1], folder)
    write_exported(sys.argv[1], folder)
    for name in ("detector", "detector_exported"):
        print(name, os.path.getsize(os.path.join(sys.argv[1], name + ".tar.xz")), "bytes")


if __name__ == "__main__":
    main()
