"""What a Keras file names is Keras' own and its own: no module, no program and no file from elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tpu2gpu import import_model
from tpu2gpu.checkpoint_importer.formats.keras_files import read_weights
from tpu2gpu.errors import SourceError, Tpu2GpuError
from tpu2gpu.graphs.formats import hdf5_files
from tpu2gpu.graphs.formats.archives import hdf5_attribute


def archive(path: Path, change: Callable[[dict[str, Any]], None] = lambda config: None) -> Path:
    """A `.keras` file whose description was changed by hand."""
    import keras

    keras.Sequential([keras.Input([3], name="x"), keras.layers.Dense(2, name="dense")]).save(path)
    with zipfile.ZipFile(path) as stored:
        files = {name: stored.read(name) for name in stored.namelist()}
    config = json.loads(files["config.json"])
    change(config)
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as stored:
        for name, data in files.items():
            stored.writestr(name, data)
    return path


def layer(description: dict[str, Any], **about: Any) -> None:
    """Add a layer."""
    description["config"]["layers"].append({"name": "added", "config": {"name": "added"}, **about})


def a_module_is_imported(config: dict[str, Any], touched: Path) -> None:
    module = touched.with_name("evil_module")
    module.with_suffix(".py").write_text(f"open({str(touched)!r}, 'w')\nclass Layer: pass\n")
    layer(config, module="evil_module", class_name="Layer", registered_name=None)


def a_function_of_python_is_called(config: dict[str, Any], touched: Path) -> None:
    dense = next(it for it in config["config"]["layers"] if it["class_name"] == "Dense")
    dense["config"]["activation"] = {
        "module": "os",
        "class_name": "function",
        "config": "system",
        "registered_name": "system",
    }


def a_class_of_python_is_made(config: dict[str, Any], touched: Path) -> None:
    layer(
        config,
        module="subprocess",
        class_name="Popen",
        registered_name=None,
        config={"args": ["touch", str(touched)]},
    )


def a_lambda_is_hidden_in_a_wrapper(config: dict[str, Any], touched: Path) -> None:
    inner = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "hidden", "function": {}}}
    layer(config, module="keras.layers", class_name="TimeDistributed", config={"name": "outer", "layer": inner})


def a_saved_model_is_run(config: dict[str, Any], touched: Path) -> None:
    layer(
        config,
        module="keras.layers",
        class_name="TFSMLayer",
        config={"name": "foreign", "filepath": str(touched), "call_endpoint": "serve"},
    )


def a_pickle_is_loaded(config: dict[str, Any], touched: Path) -> None:
    layer(config, module="keras.layers", class_name="TorchModuleWrapper", config={"name": "torch", "module": "gASV"})


def a_vocabulary_lies_elsewhere(config: dict[str, Any], touched: Path) -> None:
    layer(
        config,
        module="keras.layers",
        class_name="StringLookup",
        config={"name": "lookup", "vocabulary": "/etc/hostname"},
    )


def a_file_is_fetched(config: dict[str, Any], touched: Path) -> None:
    """Keras' own functions may do more than compute."""
    dense = next(it for it in config["config"]["layers"] if it["class_name"] == "Dense")
    dense["config"]["activation"] = {"module": "keras.utils", "class_name": "function", "config": "get_file"}


def a_call_of_a_class_makes_a_file(config: dict[str, Any], touched: Path) -> None:
    about = {"name": "call", "cls_ref": "io.TFRecordWriter", "method_name": "write"}
    layer(config, module="keras.src.layers.core.tf_op_layer", class_name="ClassMethod", config=about)


def an_op_stands_in_a_text(config: dict[str, Any], touched: Path) -> None:
    layer(config, module="keras.src.engine", class_name="TensorFlowOpLayer", config={"name": "op", "node_def": ""})


HOSTILE = (
    a_file_is_fetched,
    a_call_of_a_class_makes_a_file,
    an_op_stands_in_a_text,
    a_module_is_imported,
    a_function_of_python_is_called,
    a_class_of_python_is_made,
    a_lambda_is_hidden_in_a_wrapper,
    a_saved_model_is_run,
    a_pickle_is_loaded,
    a_vocabulary_lies_elsewhere,
)


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_nothing_of_a_hostile_description_is_run(
    change: Callable[[dict[str, Any], Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    touched = tmp_path / "touched"
    path = archive(tmp_path / "model.keras", lambda config: change(config, touched))
    with pytest.raises(Tpu2GpuError, match=r"names what is not Keras' own|holds Python code|Keras does not know"):
        import_model(path, tmp_path / "out")
    assert not touched.exists()
    assert not (tmp_path / "out").exists()


def test_weights_in_files_elsewhere_are_not_read(tmp_path: Path) -> None:
    """HDF5 has links to other files, and values that lie in them."""
    import h5py
    import numpy as np

    (tmp_path / "secret").write_bytes(bytes(range(24)))
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file["kernel:0"] = np.zeros((3, 2), np.float32)
    for name in ("values", "link"):
        path = tmp_path / f"{name}.weights.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("dense/dense")
            if name == "link":
                group["kernel:0"] = h5py.ExternalLink("outside.h5", "kernel:0")
            else:
                group.create_dataset("kernel:0", (3, 2), "f4", external=[(str(tmp_path / "secret"), 0, 24)])
            group["bias:0"] = np.zeros(2, np.float32)
        with pytest.raises(Tpu2GpuError, match=r"kernel:0: lies in another file"):
            read_weights(path)


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "assets/../../escaped"])
def test_members_outside_an_archive_are_not_unpacked(name: str, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = archive(tmp_path / "inner" / "model.keras")
    with zipfile.ZipFile(path, "a") as stored:
        stored.writestr(name, b"escaped")
    with pytest.raises(Tpu2GpuError, match=r"escaped.* is not a path inside"):
        import_model(path, tmp_path / "out")
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_which_of_two_members_of_one_name_is_meant_is_not_guessed(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.keras")
    with zipfile.ZipFile(path, "a") as stored:
        stored.writestr("config.json", "{}")
    with pytest.raises(Tpu2GpuError, match=r"two members are called 'config\.json'"):
        read_weights(path)


def keras2_model(path: Path, *layers: Any) -> Path:
    keras = pytest.importorskip("tf_keras", reason="Keras 2 is not installed")
    x = keras.Input([3])
    y = x
    for each in layers:
        y = each(y)
    keras.Model(x, y).save(path)
    return path


def test_python_in_front_of_an_archive_is_not_run(tmp_path: Path) -> None:
    """A file may be HDF5 from its begin and an archive from its end; Keras takes it for what its name says."""
    keras = pytest.importorskip("tf_keras", reason="Keras 2 is not installed")
    touched = tmp_path / "touched"
    runs = keras.layers.Lambda(lambda x, path=str(touched): (__import__("os").mkdir(path), x)[1])
    path = keras2_model(tmp_path / "model.h5", runs, keras.layers.Dense(2))
    touched.rmdir()
    with zipfile.ZipFile(archive(tmp_path / "model.keras")) as honest, zipfile.ZipFile(path, "a") as behind:
        for name in honest.namelist():
            data = honest.read(name)
            behind.writestr(name, data.replace(b'"keras_version": "3', b'"keras_version": "2'))
    with pytest.raises(Tpu2GpuError, match="an archive, which Keras does not read under this name"):
        import_model(path, tmp_path / "out")
    assert not touched.exists()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [("io.write_file", {"contents": "x"}), ("io.gfile.makedirs", {}), ("load_op_library", {}), ("py_function", {})],
)
def test_layers_of_keras_2_call_what_computes_only(function: str, arguments: dict[str, str], tmp_path: Path) -> None:
    import h5py
    import tensorflow as tf

    touched = tmp_path / "touched"
    path = keras2_model(tmp_path / "model.h5", tf.math.abs, lambda x: tf.reshape(x, [-1, 3]) + 1.0)
    import_model(path, tmp_path / "honest")
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        call = next(it for it in config["config"]["layers"] if it["class_name"] == "TFOpLambda")
        call["config"]["function"] = function
        call["inbound_nodes"] = [["_CONSTANT_VALUE", -1, str(touched), arguments]]
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(Tpu2GpuError, match=f"TFOpLambda: the function {function} of TensorFlow"):
        import_model(path, tmp_path / "out")
    assert not touched.exists()


def test_weights_that_the_file_does_not_hold_are_not_made(tmp_path: Path) -> None:
    def grow(config: dict[str, Any]) -> None:
        dense = next(it for it in config["config"]["layers"] if it["class_name"] == "Dense")
        dense["config"]["units"] = 300_000_000

    path = archive(tmp_path / "model.keras", grow)
    with pytest.raises(SourceError, match=r"keras: its description makes 900,000,000 weights or more, and 8 stand"):
        import_model(path, tmp_path / "out")


def test_weights_that_a_file_of_keras_2_does_not_hold_are_not_made(tmp_path: Path) -> None:
    import h5py

    keras = pytest.importorskip("tf_keras", reason="Keras 2 is not installed")
    path = keras2_model(tmp_path / "model.h5", keras.layers.Dense(2))
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"units": 2', '"units": 300000000')
    with pytest.raises(SourceError, match=r"h5: its description makes 900,000,000 weights or more, and 8 stand"):
        import_model(path, tmp_path / "out")


def test_groups_without_end_within_each_other_are_refused_in_little_time(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "deep.weights.h5", "w") as file:
        group = file
        for _ in range(3000):
            group = group.create_group("a")
        group["kernel"] = [1.0]
    begin = time.process_time()
    with pytest.raises(SourceError, match="groups deeper than 200 within each other"):
        read_weights(tmp_path / "deep.weights.h5")
    assert time.process_time() - begin < 10


def a_text_of_two_gibibytes(file: Path) -> None:
    import h5py

    with h5py.File(file, "r+") as stored:
        stored.attrs["note"] = "x" * 12_345
    file.write_bytes(file.read_bytes().replace((12_345).to_bytes(4, "little"), (2**31 - 9).to_bytes(4, "little")))


def a_heap_without_end(file: Path) -> None:
    """An object of no bytes among texts: HDF5 looks for the one behind it for ever."""
    import h5py

    with h5py.File(file, "r+") as stored:
        stored.attrs["note"] = "text"
    data = bytearray(file.read_bytes())
    first = data.index(b"GCOL") + 16
    data[first : first + 16] = bytes(16)
    file.write_bytes(data)


def a_chunk_that_unpacks_to_a_gibibyte(file: Path) -> None:
    import h5py

    packing = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    packing.set_chunk((4,))
    for _ in range(2):
        packing.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
    packer = zlib.compressobj()
    head = packer.compress(bytes(1)) + packer.flush(zlib.Z_FULL_FLUSH)
    once = head + (packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)) * 64
    with h5py.File(file, "r+") as stored:
        space = h5py.h5s.create_simple((4,))
        made = h5py.h5d.create(stored.id, b"packed", h5py.h5t.IEEE_F32LE, space, packing)
        made.write_direct_chunk((0,), zlib.compress(once, 9))


@pytest.mark.parametrize("spoil", [a_text_of_two_gibibytes, a_chunk_that_unpacks_to_a_gibibyte, a_heap_without_end])
def test_a_small_file_of_weights_takes_no_large_memory_and_no_long_time(
    spoil: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import h5py

    file = tmp_path / "small.weights.h5"
    with h5py.File(file, "w") as stored:
        stored["layers/dense/vars/0"] = [1.0, 2.0]
    assert list(read_weights(file)) == ["dense/vars/0"]
    spoil(file)
    assert file.stat().st_size < 100_000
    monkeypatch.setattr(hdf5_files, "_START_S", 3.0 if spoil is a_heap_without_end else 60.0)
    with pytest.raises(SourceError, match=r"small\.weights\.h5: damaged"):
        read_weights(file)
    if spoil is a_heap_without_end:  # which costs three seconds again
        return
    with pytest.raises(SourceError, match=r"small\.weights\.h5: damaged"):
        hdf5_attribute(file, "keras_version")


@pytest.mark.parametrize("spoil", [a_text_of_two_gibibytes, a_chunk_that_unpacks_to_a_gibibyte])
def test_the_reader_of_hdf5_takes_no_large_memory(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    import h5py

    file = tmp_path / "small.weights.h5"
    with h5py.File(file, "w") as stored:
        stored["layers/dense/vars/0"] = [1.0, 2.0]
    spoil(file)
    script = f"""
import resource
from tpu2gpu.graphs.formats.hdf5_files import Reader
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    Reader().read(file={str(file)!r}, member="", name="it")
except Exception as error:
    print(type(error).__name__, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    name, grown_mib = done.stdout.split()
    assert name == "SourceError"
    assert int(grown_mib) < 400
