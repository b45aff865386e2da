"""How large a Keras file may make its model: a description of some bytes could ask for any number of weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tpu2gpu.checkpoint_importer.formats.keras_files import read_weights
from tpu2gpu.errors import SourceError, Tpu2GpuError
from tpu2gpu.limits import limits
from tpu2gpu.storage.paths import Place

_ITEM_BYTES = 4


@contextmanager
def bounded_weights(path: Place, file: Path, keras: Any) -> Iterator[None]:
    """Let Keras make no more weights while the block runs than stand in a file, and `constant_mib` that do not.

    Args:
        path: The file, as errors call it.
        file: The same on this machine.
        keras: The Keras that rebuilds the model.

    Raises:
        SourceError: The file's description asks for more.
    """
    stored = _stored(file)
    most = stored + (limits().constant_mib << 20) // _ITEM_BYTES
    layer, made = keras.layers.Layer, 0
    former = layer.add_weight
    form = inspect.signature(former)

    def check() -> None:
        if made > most:
            raise SourceError(
                f"{path}: its description makes {made:,} weights or more, and {stored:,} stand in the file",
                hint="save the model again, or give --limit constant_mib=NUMBER",
            )

    def add_weight(self: Any, *given: Any, **named: Any) -> Any:
        nonlocal made
        made += _count(form.bind(self, *given, **named).arguments.get("shape"))
        check()
        return former(self, *given, **named)

    layer.add_weight = add_weight
    try:
        yield
    finally:
        layer.add_weight = former
        check()  # what Keras makes of an error in a layer is its own


def _stored(file: Path) -> int:
    try:
        weights = read_weights(file)
    except Tpu2GpuError:  # it holds none, or some of a type that we do not know
        return file.stat().st_size
    return sum(math.prod(weights.entry(name).shape) for name in weights)


def _count(shape: Any) -> int:
    try:
        return math.prod(int(size) for size in shape or ())
    except (TypeError, ValueError):  # Keras tells what is wrong with it
        return 0
