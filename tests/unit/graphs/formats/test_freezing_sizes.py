"""Cleanups that keep bits, and what happens when a frozen graph would be too large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models import networks
from tests.models.predictions import images, predict
from tpu2gpu.errors import UnsupportedError, UsageError
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.freezer.options import MAX_GRAPH_BYTES, FreezeOptions
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.tensorbundle.writer import BundleWriter

Built = Callable[..., Path]


def test_identities_go_and_bits_stay(built: Built, tmp_path: Path) -> None:
    source = built(networks.convnet, compiled=True)
    cleaned = freeze_model(source, tmp_path / "cleaned")
    as_it_is = freeze_model(source, tmp_path / "plain", FreezeOptions(clean=False))
    assert cleaned.report["cleanups"]["clean"]["identities"] > 0
    assert "clean" not in as_it_is.report["cleanups"]
    assert cleaned.report["ops"].get("Identity", 0) < as_it_is.report["ops"]["Identity"]
    wanted = predict(source, plainly=True, only=images())
    for folder in ("cleaned", "plain"):
        found = predict(tmp_path / folder, plainly=True, only=images())
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_a_graph_that_is_too_large_is_refused_with_sizes_before_it_is_written(built: Built, tmp_path: Path) -> None:
    source = built(networks.one_weight, tuple((1.0,) * 100 for _ in range(100)))
    with pytest.raises(
        UnsupportedError, match=r"would have \d+ bytes, 20000 are allowed; .* --split-weights(.|\n)*kernel: 40000 bytes"
    ):
        freeze_model(source, tmp_path / "frozen", FreezeOptions(max_graph_bytes=20_000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frozen.report.json"]


def test_split_weights_keeps_the_largest_as_variables(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    source = built(networks.convnet)
    sizes = {it.node: int(np.prod(it.shape)) for it in read_saved_model(source).variables.values()}
    options = FreezeOptions(split_weights=True, max_graph_bytes=1 << 15)
    result = freeze_model(source, tmp_path / "split", options)
    kept = [item["name"] for item in result.report["kept_variables"]]
    assert 0 < len(kept) == result.kept_variables < len(sizes)
    assert result.frozen_variables == len(sizes) - len(kept)
    assert min(sizes[name] for name in kept) >= max(size for name, size in sizes.items() if name not in kept)
    assert sorted(it.name for it in tf.saved_model.load(str(tmp_path / "split")).variables) == [
        f"{it}:0" for it in kept
    ]
    wanted, found = (predict(folder, plainly=True, image=images()) for folder in (source, tmp_path / "split"))
    assert np.array_equal(found["output_0"], wanted["output_0"])


def test_split_weights_changes_nothing_where_all_fits(built: Built, tmp_path: Path) -> None:
    result = freeze_model(built(networks.convnet), tmp_path / "frozen", FreezeOptions(split_weights=True))
    assert result.kept_variables == 0
    assert not (tmp_path / "frozen" / "variables").exists()


def test_options_that_contradict_each_other_are_named() -> None:
    with pytest.raises(UsageError, match="--split-weights: a GraphDef has no variables"):
        FreezeOptions(split_weights=True, format="both")
    with pytest.raises(UsageError, match=f"protobuf allows {MAX_GRAPH_BYTES}"):
        FreezeOptions(max_graph_bytes=MAX_GRAPH_BYTES + 1)


def test_a_folded_constant_that_would_be_larger_stays(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.row = tf.Variable(np.arange(1000, dtype=np.float32), name="row")

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + tf.tile(tf.sqrt(module.row)[None], [100, 1])}

    tf.saved_model.save(module, str(tmp_path / "model"), signatures=serve)
    result = freeze_model(tmp_path / "model", tmp_path / "frozen", FreezeOptions(fold_constants=True))
    assert (tmp_path / "frozen" / "saved_model.pb").stat().st_size < 100_000
    assert "Tile" in result.report["ops"]
    x = {"x": np.float32(2)}
    assert np.array_equal(
        predict(tmp_path / "frozen", plainly=True, **x)["y"], predict(tmp_path / "model", plainly=True, **x)["y"]
    )


@pytest.mark.slow
def test_a_model_of_more_than_two_gigabytes_freezes_split(tmp_path: Path) -> None:
    """Zeros on disk; nothing of this size is held in memory."""
    source = networks.tf1_network(tmp_path / "model", resource=True)
    from tensorflow.core.protobuf import saved_model_pb2

    size = (1 << 31) // 4 // 3 + 1000
    path = source / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for node in saved_model.meta_graphs[0].graph_def.node:
        if node.name == "net/w2":
            node.attr["shape"].shape.dim[1].size = size
        node.attr.pop("_output_shapes", None)
    path.write_bytes(saved_model.SerializeToString())
    with BundleWriter(source / "variables" / "variables") as writer:
        writer.add("net/step", 9, (), [bytes(8)])
        writer.add_array("net/w1", np.ones((4, 3), np.float32))
        writer.add("net/w2", 1, (3, size), (bytes(4 * size) for _ in range(3)))
    with pytest.raises(UnsupportedError, match=rf"{MAX_GRAPH_BYTES} are allowed(.|\n)*net/w2: {12 * size} bytes"):
        freeze_model(source, tmp_path / "frozen")
    result = freeze_model(source, tmp_path / "split", FreezeOptions(split_weights=True))
    assert (result.frozen_variables, result.kept_variables) == (1, 1)
