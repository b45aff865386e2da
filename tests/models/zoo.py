"""The zoo: real architectures with seeded random weights, as TensorFlow writes them, and real photographs to ask them.

Each builder writes a SavedModel into `folder`, returns `folder`, and fits the fixture `built`:
`built(zoo.resnet50, 64)`. Sizes are reduced by default; `FULL` holds those of the papers.

Nothing trained these models, so their weights were made with care, and that bounds what they prove:
- Batch-norm scales, shifts and statistics are random, but near those of the photographs, so that activations stay
  in range through a hundred layers.
- Outputs are raw logits (a softmax over random weights gives equal probabilities whatever one breaks), and over the
  photographs each logit has mean 0 and deviation 1, so that photographs differ in class.
- Residual branches are damped, and the logits of image classifiers are the directions in which features differ most.
  Both were chosen by looking at the errors of float16: with undamped branches and random directions, random networks
  are chaotic and multiply every rounding. The same cast of the same ResNet-50 was then off by 1e-1 of the largest
  logit (of EfficientNet-B0, by 1e-2 with a damping of 0.2), and 11 % of its classes changed. So the tolerance of the
  tests holds for networks as well-conditioned as these; a real one is judged by `tpu2gpu evaluate` on its own examples.
  An undamped one is held to what rounding its weights alone does, which no cast can avoid (5.6e-3 against 3.2e-3).

| builder | inputs | outputs |
|---|---|---|
| resnet50, mobilenet_v3, efficientnet_b0 | `image` float32 [?, size, size, 3], 0 to 255 | `output_0` logits [?, classes] |
| transformer | `ids` int32 [?, length], `mask` int32 [?, length] | `output_0` logits [?, classes] |
| lstm, gru (Keras), lstm_v1 (TF1, old-style loop) | `sequence` float32 [?, steps, features] | logits [?, classes] |
| retinanet | `image` float32 [?, size, size, 3] | `boxes`, `scores`, `classes`, `valid` after non-max suppression; without it `boxes` [?, anchors, 4], `logits` [?, anchors, classes] |
| jpeg_classifier | `image_bytes` string [?] | `logits` [?, 10], `label` string [?] from a table that an asset fills |
"""  # noqa: E501 - a table

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

# Arguments beside `folder` that give each architecture its full size.
FULL: dict[str, dict[str, Any]] = {
    "resnet50": {"size": 224, "classes": 1000},
    "mobilenet_v3": {"size": 224, "classes": 1000},
    "efficientnet_b0": {"size": 224, "classes": 1000},
    "transformer": {"layers": 12, "width": 768, "heads": 12, "vocabulary": 30522, "length": 128},
    "lstm": {"units": 512, "steps": 128, "features": 128},
    "gru": {"units": 512, "steps": 128, "features": 128},
    "retinanet": {"size": 256, "classes": 80, "width": 256, "depth": 4},
}


# ------------------------------------------------------------------------------------------------ inputs


def photographs(count: int, size: int) -> np.ndarray[Any, Any]:
    """Random square cut-outs of scikit-learn's two photographs, in many exposures and colours, negatives too; seeded.

    Float32 [count, size, size, 3], 0 to 255.
    """
    return np.stack(_cut_outs(count, size)).astype(np.float32)


def jpegs(count: int, size: int = 48) -> np.ndarray[Any, Any]:
    """The same cut-outs as JPEG files: bytes [count]."""
    from PIL import Image

    files = np.empty(count, object)
    for position, cut_out in enumerate(_cut_outs(count, size)):
        file = io.BytesIO()
        Image.fromarray(cut_out).save(file, "JPEG", quality=90)
        files[position] = file.getvalue()
    return files


def sentences(count: int, *, vocabulary: int = 500, length: int = 16) -> dict[str, np.ndarray[Any, Any]]:
    """Random tokens of random lengths for `transformer`: `ids` and `mask`, int32 [count, length]."""
    random = np.random.default_rng(21)
    mask = (np.arange(length) < random.integers(length // 2, length + 1, (count, 1))).astype(np.int32)
    return {"ids": random.integers(1, vocabulary, (count, length)).astype(np.int32) * mask, "mask": mask}


def sequences(count: int, *, steps: int = 12, features: int = 8) -> np.ndarray[Any, Any]:
    """Random walks for the recurrent networks: float32 [count, steps, features]."""
    return np.random.default_rng(22).normal(0, 0.5, (count, steps, features)).cumsum(1).astype(np.float32)


def _cut_outs(count: int, size: int) -> list[np.ndarray[Any, Any]]:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    images, random = load_sample_images().images, np.random.default_rng(20)
    found = []
    for position in range(count):
        image = images[position % len(images)]
        side = int(random.integers(96, min(image.shape[:2])))
        top, left = (int(random.integers(0, extent - side + 1)) for extent in image.shape[:2])
        cut_out = Image.fromarray(image[top : top + side, left : left + side])
        pixels = np.asarray(cut_out.resize((size, size), Image.Resampling.BILINEAR))
        # Other exposures, colours, and negatives: two photographs alone look much the same to random weights.
        pixels = (pixels * random.uniform(0.3, 1.0)).astype(np.uint8)[..., random.permutation(3)]
        found.append(255 - pixels if random.random() < 0.5 else pixels)
    return found


# ------------------------------------------------------------------------------------------------ image classifiers


def resnet50(folder: Path, size: int = 64, *, classes: int = 10, damping: float = 0.1) -> Path:
    """ResNet-50 (53 convolutions, 53 batch norms); residual branches count by `damping`, 1 for all of them."""
    import keras

    with _seeded(1):
        image = keras.Input((size, size, 3), name="image")
        scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
        body = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg", input_tensor=scaled)
        return _classifier(folder, image, body.output, classes, photographs(32, size), damping)


def mobilenet_v3(folder: Path, size: int = 64, *, classes: int = 10) -> Path:
    """MobileNetV3 small (depthwise convolutions, hard swish, squeeze and excite); it rescales its input itself."""
    import keras

    with _seeded(2):
        image = keras.Input((size, size, 3), name="image")
        body = keras.applications.MobileNetV3Small(
            weights=None, include_top=False, pooling="avg", input_tensor=image, include_preprocessing=True
        )
        return _classifier(folder, image, body.output, classes, photographs(32, size))


def efficientnet_b0(folder: Path, size: int = 64, *, classes: int = 10) -> Path:
    """EfficientNet-B0 (swish, squeeze and excite); it normalises its input itself."""
    import keras

    with _seeded(3):
        image = keras.Input((size, size, 3), name="image")
        body = keras.applications.EfficientNetB0(weights=None, include_top=False, pooling="avg", input_tensor=image)
        return _classifier(folder, image, body.output, classes, photographs(32, size))


def _classifier(
    folder: Path, image: Any, features: Any, classes: int, photos: np.ndarray[Any, Any], damping: float = 0.1
) -> Path:
    import keras

    head = keras.layers.Dense(classes, name="logits")
    model = keras.Model(image, head(features))
    _randomise_batch_norms(model, photos, damping)
    _fit_head(head, keras.Model(image, features)(photos, training=False).numpy())
    _export(model, folder)
    return folder


def _fit_head(head: Any, features: np.ndarray[Any, Any]) -> None:
    """Makes logits of the directions in which features differ most, as training does; mean 0 and deviation 1."""
    mean = features.mean(0)
    _, _, directions = np.linalg.svd(features - mean, full_matrices=False)
    mixture = np.random.default_rng(11).normal(0, 1, (4, head.units))
    kernel = directions[:4].T @ mixture
    kernel /= ((features - mean) @ kernel).std(0)
    head.kernel.assign(kernel)
    head.bias.assign(-mean @ kernel)


def _export(model: Any, folder: Path) -> None:
    """Keras' own export; it speaks to standard output, which tests of commands want for themselves."""
    import contextlib

    with contextlib.redirect_stdout(io.StringIO()):
        model.export(str(folder))


def _randomise_batch_norms(model: Any, data: np.ndarray[Any, Any], damping: float = 0.1) -> None:
    """Gives batch norms random parameters, and statistics near those of the data, layer by layer."""
    import keras

    random = np.random.default_rng(6)
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        # As in trained networks, residual branches add little: with more, random networks are chaotic, and any
        # rounding grows from layer to layer.
        scale = damping if layer.name.endswith(("_3_bn", "project_bn")) else 1.0
        layer.gamma.assign(scale * random.uniform(0.7, 1.3, layer.gamma.shape))
        layer.beta.assign(scale * random.normal(0, 0.1, layer.beta.shape))
        layer.momentum = 0.0  # one step of training takes over the data's statistics
    model(data, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        variance = layer.moving_variance.numpy() + 1e-3
        layer.moving_mean.assign(layer.moving_mean.numpy() + random.normal(0, 0.1, variance.shape) * variance**0.5)
        layer.moving_variance.assign(variance * random.uniform(0.8, 1.25, variance.shape))
        layer.momentum = momentum


def _centre(head: Any, logits: np.ndarray[Any, Any]) -> None:
    """Makes each logit's mean 0 and deviation 1 over what gave these logits."""
    mean, deviation = logits.mean(0), logits.std(0) + 1e-6
    head.kernel.assign(head.kernel.numpy() / deviation)
    head.bias.assign((head.bias.numpy() - mean) / deviation)


class _seeded:  # noqa: N801 - reads as a statement
    """Seeds Keras, and starts its automatic names anew, so that the same builder writes the same names."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __enter__(self) -> None:
        import keras

        keras.backend.clear_session()
        keras.utils.set_random_seed(self._seed)

    def __exit__(self, *error: object) -> None:
        import keras

        keras.backend.clear_session()


# ------------------------------------------------------------------------------------------------ sequences


def transformer(
    folder: Path,
    *,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    vocabulary: int = 500,
    length: int = 16,
    classes: int = 10,
) -> Path:
    """A BERT-like encoder: embeddings, attention with a mask, GELU, layer norms with BERT's epsilon of 1e-12."""
    import keras

    with _seeded(4):
        layer = keras.layers
        ids = keras.Input((length,), dtype="int32", name="ids")
        mask = keras.Input((length,), dtype="int32", name="mask")
        positions = layer.Embedding(length, width, name="positions")(np.arange(length)[None])
        x = layer.Embedding(vocabulary, width, name="tokens")(ids) + positions
        x = layer.LayerNormalization(epsilon=1e-12, name="embeddings_norm")(x)
        visible = layer.Reshape((1, length))(mask) * layer.Reshape((length, 1))(mask * 0 + 1)
        for block in range(layers):
            attended = layer.MultiHeadAttention(heads, width // heads, name=f"block_{block}_attention")(
                x, x, attention_mask=visible
            )
            x = layer.LayerNormalization(epsilon=1e-12, name=f"block_{block}_norm")(x + attended)
            inner = layer.Dense(4 * width, activation="gelu", name=f"block_{block}_inner")(x)
            outer = layer.Dense(width, name=f"block_{block}_outer")(inner)
            x = layer.LayerNormalization(epsilon=1e-12, name=f"block_{block}_output_norm")(x + outer)
        pooled = layer.Dense(width, activation="tanh", name="pooler")(x[:, 0])
        head = layer.Dense(classes, name="logits")
        model = keras.Model([ids, mask], head(pooled))
        random = np.random.default_rng(7)
        for weight in model.weights:
            if weight.path.endswith("gamma"):
                weight.assign(random.uniform(0.7, 1.3, weight.shape))
            elif weight.path.endswith(("beta", "bias")):
                weight.assign(random.normal(0, 0.1, weight.shape))
            elif "embeddings" in weight.path:
                weight.assign(random.normal(0, 0.5, weight.shape))
        feeds = sentences(32, vocabulary=vocabulary, length=length)
        _centre(head, model([feeds["ids"], feeds["mask"]], training=False).numpy())
        _export(model, folder)
    return folder


def lstm(folder: Path, *, units: int = 24, steps: int = 12, features: int = 8, classes: int = 10) -> Path:
    """Two Keras LSTM layers: each a While whose body takes the weights."""
    return _recurrent(folder, "LSTM", units, steps, features, classes)


def gru(folder: Path, *, units: int = 24, steps: int = 12, features: int = 8, classes: int = 10) -> Path:
    """Two Keras GRU layers."""
    return _recurrent(folder, "GRU", units, steps, features, classes)


def _recurrent(folder: Path, kind: str, units: int, steps: int, features: int, classes: int) -> Path:
    import keras

    with _seeded(5):
        cell = getattr(keras.layers, kind)
        sequence = keras.Input((steps, features), name="sequence")
        x = cell(units, return_sequences=True, name="first")(sequence)
        x = cell(units, name="second")(x)
        head = keras.layers.Dense(classes, name="logits")
        model = keras.Model(sequence, head(x))
        data = sequences(32, steps=steps, features=features)
        _centre(head, model(data, training=False).numpy())
        _export(model, folder)
    return folder


def lstm_v1(folder: Path, *, units: int = 24, steps: int = 12, features: int = 8, classes: int = 10) -> Path:
    """An LSTM as TensorFlow 1 wrote it: Enter, Merge, Switch, Exit, NextIteration, TensorArrays; output `logits`."""
    import tensorflow as tf

    v1, random = tf.compat.v1, np.random.default_rng(8)
    graph = tf.Graph()
    before = v1.control_flow_v2_enabled()
    v1.disable_control_flow_v2()
    try:
        with graph.as_default(), v1.Session(graph=graph) as session:
            sequence = v1.placeholder(tf.float32, [None, steps, features], name="sequence")

            def weight(name: str, *shape: int) -> Any:
                value = random.normal(0, 1 / shape[0] ** 0.5, shape).astype(np.float32)
                return v1.get_variable(name, initializer=value, use_resource=True)

            kernel, bias = weight("rnn/kernel", features + units, 4 * units), weight("rnn/bias", 4 * units)
            ahead = tf.transpose(sequence, [1, 0, 2])
            inputs = tf.TensorArray(tf.float32, steps).unstack(ahead)
            zeros = tf.zeros([tf.shape(sequence)[0], units])

            def step(time: Any, state: Any, memory: Any) -> Any:
                joined = tf.concat([inputs.read(time), state], 1)
                gates = tf.nn.bias_add(tf.matmul(joined, kernel), bias)
                i, j, f, o = tf.split(gates, 4, 1)
                memory = tf.sigmoid(f + 1.0) * memory + tf.sigmoid(i) * tf.tanh(j)
                return time + 1, tf.sigmoid(o) * tf.tanh(memory), memory

            _, state, _ = tf.while_loop(lambda time, *_: time < steps, step, [tf.constant(0), zeros, zeros])
            head = weight("head/kernel", units, classes)
            logits = tf.nn.bias_add(tf.matmul(state, head), weight("head/bias", classes), name="logits")
            session.run(v1.global_variables_initializer())
            v1.saved_model.simple_save(session, str(folder), {"sequence": sequence}, {"logits": logits})
    finally:
        if before:
            v1.enable_control_flow_v2()
    return folder


# ------------------------------------------------------------------------------------------------ detection


def retinanet(
    folder: Path, size: int = 64, *, nms: bool = True, classes: int = 4, width: int = 32, depth: int = 1
) -> Path:
    """RetinaNet-like: convolutional body, three-level pyramid, heads shared over levels, decoded boxes.

    Args:
        folder: Where to write.
        size: Side of the images; a multiple of 32.
        nms: End in non-max suppression (`boxes` [?, 20, 4], `scores`, `classes`, `valid`), or before it.
        classes: Number of classes.
        width: Channels of pyramid and heads.
        depth: Convolutions in each head and stage.
    """
    import keras
    import tensorflow as tf

    with _seeded(9):
        layer = keras.layers
        image = keras.Input((size, size, 3), name="image")
        x, levels = layer.Rescaling(1 / 127.5, offset=-1.0)(image), []
        for stage in range(5):
            for block in range(depth):
                strides = 2 if block == 0 else 1
                x = layer.Conv2D(width, 3, strides=strides, padding="same", use_bias=False)(x)
                x = layer.ReLU()(layer.BatchNormalization()(x))
            levels.append(layer.Conv2D(width, 1, name=f"lateral_{stage}")(x))
        pyramid = [levels[4]]
        for level in (levels[3], levels[2]):
            pyramid.append(level + layer.UpSampling2D(2, interpolation="nearest")(pyramid[-1]))
        heads: list[list[Any]] = [
            [layer.Conv2D(width, 3, padding="same", activation="relu") for _ in range(depth)]
            + [layer.Conv2D(channels, 3, padding="same", name=name)]
            for channels, name in ((4, "box_offsets"), (classes, "class_logits"))
        ]
        outputs = []
        for head in heads:
            found = []
            for level in pyramid:
                y = level
                for convolution in head:
                    y = convolution(y)
                found.append(layer.Reshape((-1, head[-1].filters))(y))
            outputs.append(layer.Concatenate(1)(found))
        model = keras.Model(image, outputs)
        photos = photographs(8, size)
        _randomise_batch_norms(model, photos)
        _centre(heads[1][-1], model(photos, training=False)[1].numpy().reshape(-1, classes))
        _centre(heads[0][-1], model(photos, training=False)[0].numpy().reshape(-1, 4))
    module = tf.Module()
    module.model = model
    anchors = tf.constant(_anchors(size))

    @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3], tf.float32, name="image")])
    def serve(image: Any) -> Any:
        offsets, logits = module.model(image, training=False)
        centres = anchors[:, :2] + 0.1 * offsets[..., :2] * anchors[:, 2:]
        sizes = tf.exp(0.2 * offsets[..., 2:]) * anchors[:, 2:]
        boxes = tf.concat([centres - sizes / 2, centres + sizes / 2], -1, name="boxes")
        if not nms:
            return {"boxes": boxes, "logits": logits}
        found = tf.image.combined_non_max_suppression(
            boxes[:, :, None], tf.sigmoid(logits), 10, 20, iou_threshold=0.5, score_threshold=0.6, clip_boxes=False
        )
        return {"boxes": found[0], "scores": found[1], "classes": found[2], "valid": found[3]}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder


def _anchors(size: int) -> np.ndarray[Any, Any]:
    """One anchor a cell of the strides 32, 16, 8: centre and size (y, x, h, w), [anchors, 4], pixels."""
    found = []
    for stride in (32, 16, 8):
        centres = (np.arange(size // stride) + 0.5) * stride
        y, x = np.meshgrid(centres, centres, indexing="ij")
        found.append(np.stack([y, x, 0 * y + 2 * stride, 0 * x + 2 * stride], -1).reshape(-1, 4))
    return np.concatenate(found).astype(np.float32)


# ------------------------------------------------------------------------------------------------ files in


def jpeg_classifier(folder: Path, size: int = 32) -> Path:
    """JPEG files in, names out: decoding in a map, a small network, a table of names that an asset fills."""
    import keras
    import tensorflow as tf

    with _seeded(10):
        layer = keras.layers
        image = keras.Input((size, size, 3))
        x = layer.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="conv")(image)
        x = layer.ReLU()(layer.BatchNormalization(name="norm")(x))
        x = layer.GlobalAveragePooling2D()(layer.Conv2D(16, 3, strides=2, activation="relu", name="conv_1")(x))
        head = layer.Dense(10, name="head")
        model = keras.Model(image, head(x))
        photos = photographs(16, size) / 255
        _randomise_batch_norms(model, photos)
        _centre(head, model(photos, training=False).numpy())
    names = folder.with_name(folder.name + ".names.txt")
    names.parent.mkdir(parents=True, exist_ok=True)
    names.write_text("".join(f"kind {number}\n" for number in range(10)))
    index = tf.lookup.TextFileIndex
    module = tf.Module()
    module.model = model
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(str(names), tf.int64, index.LINE_NUMBER, tf.string, index.WHOLE_LINE), "?"
    )

    def decode(file: Any) -> Any:
        image = tf.io.decode_jpeg(file, channels=3)
        return tf.image.resize(tf.cast(image, tf.float32) / 255.0, [size, size])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes: Any) -> Any:
        images = tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32))
        logits = module.model(images, training=False)
        return {"logits": logits, "label": module.table.lookup(tf.argmax(logits, 1))}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder
