"""Export the models that the tests of JAX exports read: `python export_jax_zoo.py FOLDER`, where JAX is installed.

It runs in an environment of its own (jax 0.4.26 with TensorFlow 2.16, or jax 0.9 with TensorFlow 2.21); the tests need
no JAX. Each model becomes `FOLDER/NAME.tar.xz`, a SavedModel with random weights.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from jax import lax
from jax.experimental import jax2tf

jax.config.update("jax_traceback_in_locations_limit", 0)  # nobody's paths in the files
RANDOM = np.random.default_rng(0)
PLATFORMS = ["cpu", "cuda", "tpu"]


def weight(*shape: int, scale: float | None = None) -> np.ndarray:
    fan = np.prod(shape[:-1]) if len(shape) > 1 else 1
    return (RANDOM.normal(size=shape) * (scale or 1 / np.sqrt(fan))).astype(np.float32)


def batch_norm_weights(channels: int) -> list[np.ndarray]:
    return [
        1 + weight(channels, scale=0.1),
        weight(channels, scale=0.1),
        weight(channels, scale=0.1),
        (1 + 0.2 * RANDOM.random(channels)).astype(np.float32),
    ]


def batch_norm(x: Any, p: Any) -> Any:
    gamma, beta, mean, variance = p
    return (x - mean) * lax.rsqrt(variance + 1e-5) * gamma + beta


def conv(x: Any, kernel: Any, stride: int = 1, padding: str = "SAME", groups: int = 1) -> Any:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, feature_group_count=groups, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def max_pool(x: Any, size: int, stride: int, padding: str = "SAME") -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), padding)


def avg_pool(x: Any, size: int, stride: int, padding: str = "VALID") -> Any:
    return lax.reduce_window(x, 0.0, lax.add, (1, size, size, 1), (1, stride, stride, 1), padding) / (size * size)


def layer_norm(x: Any, p: Any) -> Any:
    mean = jnp.mean(x, -1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), -1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-6) * p[0] + p[1]


def dense(x: Any, p: Any) -> Any:
    return x @ p[0] + p[1]


def dense_weights(inputs: int, outputs: int) -> list[np.ndarray]:
    return [weight(inputs, outputs), weight(outputs, scale=0.1)]


def attention(x: Any, p: Any, heads: int) -> Any:
    q, k, v = (dense(x, p[name]).reshape(*x.shape[:-1], heads, -1) for name in "qkv")
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
    return dense(mixed.reshape(*x.shape[:-1], -1), p["o"])


def block_weights(size: int) -> dict[str, Any]:
    norms = {name: [1 + weight(size, scale=0.1), weight(size, scale=0.1)] for name in ("n1", "n2")}
    return {
        **norms,
        **{name: dense_weights(size, size) for name in "qkvo"},
        "m1": dense_weights(size, 4 * size),
        "m2": dense_weights(4 * size, size),
    }


def block(x: Any, p: Any, heads: int = 4, *, approximate: bool = True) -> Any:
    x = x + attention(layer_norm(x, p["n1"]), p, heads)
    return x + dense(jax.nn.gelu(dense(layer_norm(x, p["n2"]), p["m1"]), approximate=approximate), p["m2"])


def cnn() -> tuple[Any, Any]:
    p = {
        "k1": weight(3, 3, 3, 8),
        "b1": batch_norm_weights(8),
        "k2": weight(3, 3, 1, 8),
        "k3": weight(1, 1, 8, 16),
        "b3": batch_norm_weights(16),
        "d": dense_weights(16, 10),
    }

    def f(p: Any, x: Any) -> Any:
        x = jax.nn.relu(batch_norm(conv(x, p["k1"], 2), p["b1"]))
        x = max_pool(x, 3, 2)
        x = jnp.clip(batch_norm(conv(conv(x, p["k2"], groups=8), p["k3"]), p["b3"]), 0, 6)
        x = avg_pool(x, 2, 2)
        return jax.nn.softmax(dense(jnp.mean(x, (1, 2)), p["d"]))

    return f, p


def resnet18(width: int = 2) -> tuple[Any, Any]:
    p: dict[str, Any] = {"stem": weight(7, 7, 3, width), "stem_bn": batch_norm_weights(width), "blocks": []}
    channels = width
    for stage in range(4):
        for _ in range(2):
            out = width << stage
            p["blocks"].append(
                {
                    "k1": weight(3, 3, channels, out),
                    "b1": batch_norm_weights(out),
                    "k2": weight(3, 3, out, out),
                    "b2": batch_norm_weights(out),
                }
            )
            if channels != out:
                p["blocks"][-1] |= {"k3": weight(1, 1, channels, out), "b3": batch_norm_weights(out)}
            channels = out
    p["d"] = dense_weights(channels, 10)

    def f(p: Any, x: Any) -> Any:
        x = max_pool(jax.nn.relu(batch_norm(conv(x, p["stem"], 2), p["stem_bn"])), 3, 2)
        for each in p["blocks"]:
            stride = 2 if "k3" in each else 1
            y = jax.nn.relu(batch_norm(conv(x, each["k1"], stride), each["b1"]))
            y = batch_norm(conv(y, each["k2"]), each["b2"])
            x = jax.nn.relu(y + (batch_norm(conv(x, each["k3"], stride), each["b3"]) if "k3" in each else x))
        return dense(jnp.mean(x, (1, 2)), p["d"])

    return f, p


def transformer() -> tuple[Any, Any]:
    p = {
        "e": weight(50, 16, scale=1.0),
        "p": weight(12, 16, scale=0.3),
        "b": [block_weights(16), block_weights(16)],
        "h": dense_weights(16, 50),
    }

    def f(p: Any, ids: Any) -> Any:
        x = p["e"][ids] + p["p"]
        for each in p["b"]:
            x = block(x, each)
        return dense(x, p["h"])

    return f, p


def vit() -> tuple[Any, Any]:
    p = {
        "k": weight(8, 8, 3, 32),
        "c": weight(1, 1, 32),
        "p": weight(1, 17, 32, scale=0.3),
        "b": [block_weights(32)],
        "h": dense_weights(32, 10),
    }

    def f(p: Any, x: Any) -> Any:
        x = lax.conv_general_dilated(x, p["k"], (8, 8), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = x.reshape(x.shape[0], -1, 32)
        x = jnp.concatenate([jnp.broadcast_to(p["c"], (x.shape[0], 1, 32)), x], 1) + p["p"]
        for each in p["b"]:
            x = block(x, each, approximate=False)
        return dense(x[:, 0], p["h"])

    return f, p


def lstm() -> tuple[Any, Any]:
    p = {"w": weight(8, 64), "u": weight(16, 64), "b": weight(64, scale=0.1), "h": dense_weights(16, 3)}

    def f(p: Any, x: Any) -> Any:
        def step(carry: Any, now: Any) -> Any:
            h, c = carry
            i, g, o, k = jnp.split(now @ p["w"] + h @ p["u"] + p["b"], 4, axis=-1)
            c = jax.nn.sigmoid(k) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((x.shape[0], 16), x.dtype)
        (h, _), hs = lax.scan(step, (zero, zero), jnp.swapaxes(x, 0, 1))
        return {"last": dense(h, p["h"]), "all": jnp.swapaxes(hs, 0, 1)}

    return f, p


def embedding() -> tuple[Any, Any]:
    p = {"t": weight(100, 16, scale=1.0), "d": dense_weights(16, 4)}

    def f(p: Any, ids: Any) -> Any:
        found = jnp.take(p["t"], ids, axis=0, mode="clip")
        mask = (ids > 0)[..., None]
        mean = jnp.sum(jnp.where(mask, found, 0), 1) / jnp.maximum(jnp.sum(mask, 1), 1)
        return jax.nn.log_softmax(dense(mean, p["d"]))

    return f, p


def detection() -> tuple[Any, Any]:
    p = {
        "k1": weight(3, 3, 3, 8),
        "b1": batch_norm_weights(8),
        "box": weight(3, 3, 8, 4, scale=0.05),
        "cls": weight(3, 3, 8, 5, scale=0.05),
        "up": weight(2, 2, 8, 8),
    }
    rows, columns = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    centres = ((np.stack([rows, columns], -1).reshape(-1, 2) + 0.5) / 8).astype(np.float32)

    def f(p: Any, x: Any) -> Any:
        x = jax.nn.silu(batch_norm(conv(x, p["k1"], 8), p["b1"]))
        x = lax.conv_transpose(x, p["up"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        box = conv(x, p["box"]).reshape(x.shape[0], -1, 4)
        scores = jax.nn.sigmoid(conv(x, p["cls"]).reshape(x.shape[0], -1, 5))
        middle, half = centres + 0.1 * box[..., :2], 0.2 * jnp.exp(box[..., 2:]) / 2
        boxes = jnp.concatenate([middle - half, middle + half], -1)
        best, index = lax.top_k(jnp.max(scores, -1), 5)
        chosen = jnp.take_along_axis(boxes, index[..., None], axis=1)
        classes = jnp.take_along_axis(jnp.argmax(scores, -1), index, axis=1)
        return {"boxes": chosen, "scores": best, "classes": classes.astype(jnp.int32)}

    return f, p


def bfloat16() -> tuple[Any, Any]:
    p = jax.tree_util.tree_map(
        lambda it: jnp.asarray(it, jnp.bfloat16), {"a": dense_weights(16, 32), "b": dense_weights(32, 4)}
    )

    def f(p: Any, x: Any) -> Any:
        x = jax.nn.relu(dense(x.astype(jnp.bfloat16), p["a"]))
        return dense(x, p["b"]).astype(jnp.float32)

    return f, p


IMAGE, WORDS = (None, 32, 32, 3), (None, 12)
MODELS = {
    "cnn": (cnn, IMAGE, np.float32),
    "resnet18": (resnet18, IMAGE, np.float32),
    "transformer": (transformer, WORDS, np.int32),
    "vit": (vit, IMAGE, np.float32),
    "lstm": (lstm, (None, 7, 8), np.float32),
    "embedding": (embedding, WORDS, np.int32),
    "detection": (detection, (None, 32, 32, 3), np.float32),
    "bfloat16": (bfloat16, (None, 16), np.float32),
}


def export(name: str, folder: Path, *, batch: int | None, native: bool = True) -> None:
    """Export a model; not `native`, as older exports were: TensorFlow's ops, and `Xla*` where TensorFlow has none."""
    build, shape, dtype = MODELS[name]
    function, weights = build()
    shape = (batch, *shape[1:])
    symbolic = None if batch else [None, "(b, " + ", ".join(map(str, shape[1:])) + ")"]
    how: dict[str, Any] = {"native_serialization": False, "enable_xla": True}
    if native:
        how = {"native_serialization_platforms": PLATFORMS if name != "cnn" else ("cpu",)}
    converted = jax2tf.convert(function, polymorphic_shapes=symbolic, with_gradient=False, **how)
    module = tf.Module()
    module.weights = tf.nest.map_structure(tf.Variable, jax.tree_util.tree_map(np.asarray, weights))

    def serve(x: Any) -> Any:
        outputs = converted(tf.nest.map_structure(lambda it: it, module.weights), x)
        return outputs if isinstance(outputs, dict) else {"output": outputs}

    module.serve = tf.function(serve, input_signature=[tf.TensorSpec(shape, dtype, name="x")], autograph=False)
    marks = ("" if native else "_xlaops") + (f"_batch{batch}" if batch else "")
    save(module, {"serving_default": module.serve}, name + marks, folder)


def export_keras(folder: Path) -> None:
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((16, 16, 3)),
            layers.Conv2D(8, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.DepthwiseConv2D(3),
            layers.LayerNormalization(),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(16, activation="gelu"),
            layers.Dropout(0.3),
            layers.Dense(4, activation="softmax"),
        ]
    )
    with tempfile.TemporaryDirectory() as temporary:
        model.export(temporary)
        pack(Path(temporary), folder / f"keras_on_jax_{MARK}.tar.xz")


def save(module: Any, signatures: Any, name: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        tf.saved_model.save(module, temporary, signatures=signatures)
        pack(Path(temporary), folder / f"{name}_{MARK}.tar.xz")


def pack(folder: Path, path: Path) -> None:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
        return None if "fingerprint" in member.name else member

    graph = folder / "saved_model.pb"
    found = graph.read_bytes()
    for place in (str(Path(__file__).resolve().parent), sys.prefix):  # of source files; sizes must stay
        found = found.replace(place.encode(), b"." * len(place))
    graph.write_bytes(found)
    with tarfile.open(path, "w:xz", preset=9) as archive:
        archive.add(folder, arcname=".", filter=plain)
    print(path.name, path.stat().st_size)


MARK = "jax" + "".join(jax.__version__.split(".")[:2])

if __name__ == "__main__":
    home = Path(sys.argv[1])
    wanted = sys.argv[2:] or [*MODELS, "fixed", "keras", *(["xlaops"] if MARK == "jax04" else [])]
    for each in wanted:
        if each in MODELS:
            export(each, home, batch=None)
        elif each == "fixed":
            for one in ("transformer", "lstm", "cnn"):
                export(one, home, batch=4)
        elif each == "xlaops":  # which newer jax writes no more
            for one in MODELS:
                export(one, home, batch=None, native=False)
            for one in ("transformer", "lstm", "cnn"):
                export(one, home, batch=4, native=False)
        else:
            export_keras(home)
