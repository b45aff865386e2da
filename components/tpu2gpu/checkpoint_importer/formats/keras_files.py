"""Weights out of Keras' files, by the names that variables have in graphs.

    Keras 2 `.h5`            /<layer>/<layer>/kernel:0, listed in the attribute `weight_names`
    Keras 3 `.weights.h5`    /layers/<...>/vars/0, 1, ... with the layer's name in an attribute of `vars`
A `.keras` archive holds the second kind; in one that Keras 2 wrote, layers are called by kind and number (`dense_1`),
and config.json beside it lists their names in that order.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from typing import Any

from tpu2gpu.checkpoint_importer.formats.keras_confinement import check_files
from tpu2gpu.errors import GraphError, SourceError, UnsupportedError, foreign_errors
from tpu2gpu.graphs.formats.stored_values import read_member, walk_hdf5
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.plain_json import parse_json
from tpu2gpu.storage.paths import Place
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.arrays import Arrays

_DIGITS = 9  # of a weight's number in its layer
# The order in which Keras' layers make their variables.
_ORDER = """gamma beta moving_mean moving_variance embeddings depthwise_kernel pointwise_kernel kernel recurrent_kernel
    bias""".split()


def read_weights(path: Place) -> KerasArrays:
    """Open the weights of an `.h5` file or a `.keras` archive.

    Raises:
        SourceError: It is damaged, or holds no weights.
    """
    with foreign_errors(SourceError, f"{path}: damaged", hint="fetch it again"):
        return _read_weights(path)


def _read_weights(path: Place) -> KerasArrays:
    import h5py

    names: dict[str, str] = {}
    check_files(path)
    stored = path.open("rb")
    if zipfile.is_zipfile(stored):
        with zipfile.ZipFile(stored) as archive:
            if "model.weights.h5" not in archive.namelist():
                raise SourceError(
                    f"{path}: holds no weights (no model.weights.h5)", hint="save the model, or its weights, again"
                )
            stored = io.BytesIO(read_member(archive, "model.weights.h5"))
            if "config.json" in archive.namelist():
                names = _layer_names(parse_json(read_member(archive, "config.json")))
    file = h5py.File(stored, "r")
    root = file.get("model_weights", file)
    found: dict[str, Any] = {}
    numbered = "layers" in root or "_layer_checkpoint_dependencies" in root

    for name, item in walk_hdf5(str(path), root):
        if numbered:
            parts = name.split("/")
            if len(parts) >= 2 and parts[-2] == "vars" and parts[0] != "optimizer":
                kind = parts[-3] if len(parts) > 2 else ""
                layer = item.parent.attrs.get("name", names.get(kind, kind))
                found[f"{layer}/vars/{parts[-1]}"] = item
        elif not name.startswith("optimizer_weights"):
            found[_variable_name(name)] = item
    if not found:
        raise SourceError(f"{path}: holds no weights")
    entries = {name: (_dtype(item, path), tuple(item.shape)) for name, item in found.items()}

    def load(name: str) -> Any:
        with foreign_errors(SourceError, f"{path}: {name} cannot be read", hint="fetch it again"):
            return _array(found[name])

    weights = KerasArrays(path, entries, load)
    weights.numbered = numbered
    return weights


class KerasArrays(Arrays):
    """Weights of a Keras file."""

    numbered = False

    def name_like(self, model: ServingModel) -> Arrays:
        """Call weights as a model's variables are called, where the file only numbers them within their layer.

        Raises:
            GraphError: A layer's weights do not fit its variables; all are listed.
            UnsupportedError: The order of a layer's variables is not known.
        """
        if not self.numbered:
            return self
        layers: dict[str, list[str]] = {}
        for name in model.variables:
            layers.setdefault(name.rpartition("/")[0], []).append(name)
        given: dict[str, list[str]] = {}
        for key in self:
            given.setdefault(key.partition("/vars/")[0], []).append(key)
        names: dict[str, str] = {}
        wrong = []
        for layer, variables in layers.items():
            keys = sorted(given.get(layer, ()), key=_place_of)
            unknown = [name for name in variables if name.rpartition("/")[2] not in _ORDER]
            if unknown and len(variables) > 1:
                raise UnsupportedError(
                    f"{self.prefix}: the file numbers the weights of {layer!r}, and the order of "
                    f"{', '.join(sorted(variables))} is not known",
                    hint="give --graph package.module:function that builds the Keras model",
                )
            ordered = (
                variables if unknown else sorted(variables, key=lambda name: _ORDER.index(name.rpartition("/")[2]))
            )
            if len(keys) != len(ordered):
                wrong.append(f"{layer}: {len(ordered)} variables in the graph, {len(keys)} in the file")
            names.update(zip(ordered, keys, strict=False))
        if wrong:
            raise GraphError(f"{self.prefix}: does not fit the graph", details=wrong)
        entries = {name: (self.entry(key).dtype, self.entry(key).shape) for name, key in names.items()}
        return Arrays(self.prefix, entries, lambda name: self.read(names[name]))


def _place_of(key: str) -> tuple[int, str]:
    """Return what weights of a layer are ordered by: their number; names, which a layer of one's own gives, follow."""
    number = key.rpartition("/")[2]
    return (int(number), "") if number.isdecimal() and len(number) <= _DIGITS else (1 << 62, number)


def _layer_names(description: Any) -> dict[str, str]:
    """Return the layers' names by what Keras 2 calls them in a file: their kind, numbered from the second on."""
    names: dict[str, str] = {}
    used: Counter[str] = Counter()
    for layer in _layers(description):
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", layer["class_name"])).lower()
        key = f"{kind}_{used[kind]}" if used[kind] else kind
        names[key] = str(layer.get("name") or layer["config"].get("name") or key)
        used[kind] += 1
    return names


def _layers(description: Any) -> list[Any]:
    """Return the layers that a description lists; a model of a class of its own may list none, or others."""
    config = description.get("config") if isinstance(description, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else None
    listed = layers if isinstance(layers, list) else []
    return [it for it in listed if isinstance(it, dict) and isinstance(it.get("config"), dict) and it.get("class_name")]


def _variable_name(path: str) -> str:
    """`dense/dense/kernel:0` -> `dense/kernel`: Keras 2 repeats the layer's name in front."""
    name = re.sub(r":\d+$", "", path)
    layer, _, rest = name.partition("/")
    return rest if rest.startswith(f"{layer}/") else name


def _dtype(item: Any, path: Place) -> int:
    name = "bfloat16" if item.dtype.kind == "V" and item.dtype.itemsize == 2 else item.dtype.name
    if name not in format.DTYPE_ENUMS:
        raise UnsupportedError(f"{path}: {item.name} holds {name}, which is no type of a weight")
    return format.DTYPE_ENUMS[name]


def _array(item: Any) -> Any:
    import ml_dtypes

    array = item[()]
    return array.view(ml_dtypes.bfloat16) if array.dtype.kind == "V" else array
