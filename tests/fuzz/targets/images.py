"""Folders of images, and the tables of their labels."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import numpy as np

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.target import Case, Target
from tpu2gpu.running.examples.feeds import read_examples
from tpu2gpu.running.examples.reading import ExampleOptions
from tpu2gpu.running.runner import TensorSpec

_LABELS = ("cat", "7", "\u00b2", "9" * 30, "9" * 5000, "-1", "", '"', "\ud800", "1.5", "\0", "x" * 200_000)
_SIZES = (0, 1, 5, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_RESIZES = ("crop", "pad:4x4", "stretch:8x8", "")


def _seeds(folder: Path) -> list[Case]:
    import tensorflow as tf

    pixels = np.arange(75, dtype=np.uint8).reshape(5, 5, 3)
    made = {"a.png": tf.io.encode_png(pixels).numpy(), "b.jpg": tf.io.encode_jpeg(pixels).numpy(), "c.gif": _gif()}
    made["d.bmp"] = _bmp()
    table = "\n".join(f"{name},{place}" for place, name in enumerate(made)).encode()
    return [
        {**made, "labels.csv": table},
        {f"{folder_name}/{name}": data for folder_name, (name, data) in zip("pqrs", made.items(), strict=True)},
        *({name: data} for name, data in made.items()),
    ]


def _gif() -> bytes:
    return bytes.fromhex("47494638396101000100800000ff000000ff0021f90400000000002c000000000100010000020144003b")


def _bmp() -> bytes:
    rows = bytes(16) * 2
    return struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54 + len(rows), 0, 0, 54, 40, 5, 2, 1, 24, 0, 0, 0, 0, 0, 0) + rows


def _mutate(case: Case, rng: random.Random) -> None:
    name = rng.choice(sorted(case))
    data = case[name]
    if name.endswith(".csv"):
        lines = data.decode().splitlines()
        place = rng.randrange(len(lines))
        lines[place] = f"{lines[place].partition(',')[0]},{rng.choice(_LABELS)}"
        case[name] = "\n".join(lines).encode(errors="surrogatepass")
        if rng.random() < 0.2:
            case[name] = mutate_bytes(case[name], rng)
    elif rng.random() < 0.4:
        case[name] = _resized(name, data, rng)
    elif rng.random() < 0.1:
        del case[name]
        case[rng.choice(("a.PNG", "b.jpeg", "x.png", "\u00b2/x.png", "readme.md", "x.bin"))] = data
    else:
        case[name] = mutate_bytes(data, rng)


def _resized(name: str, data: bytes, rng: random.Random) -> bytes:
    """Have the image claim another size."""
    width, height = rng.choice(_SIZES), rng.choice(_SIZES)
    if name.endswith(".png"):
        head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    if name.endswith(".bmp"):
        return data[:18] + struct.pack("<II", width, height) + data[26:]
    if name.endswith(".gif"):
        return data[:6] + struct.pack("<HH", width & 0xFFFF, height & 0xFFFF) + data[10:]
    place = data.find(b"\xff\xc0")
    return data[: place + 5] + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + data[place + 9 :]


def _run(folder: Path) -> None:
    size = sum(len(it.name) for it in folder.rglob("*"))
    options = ExampleOptions(resize=_RESIZES[size % len(_RESIZES)], scale=("none", "unit", "imagenet")[size % 3])
    spec = TensorSpec("image", "float32", (None, 4, 4, 3))
    read_examples([str(folder)], (spec,), reading=options.reading())


TARGET = Target(name="images", seeds=_seeds, mutate=_mutate, run=_run)
