"""Rules, presets and options of the cast: what takes which type, and how the work is done."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models import networks
from tests.models.predictions import images, predict
from tpu2gpu.errors import CheckpointError, RemoteRunError, UsageError
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.precision_caster.casting import cast_checkpoint, cast_model
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.precision_caster.rules import compile_rules, decide
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.writer import BundleWriter

Built = Callable[..., Path]
CHECKPOINT = "checkpoint/model.ckpt"


def types_of(folder: Path) -> dict[str, str]:
    return {key: entry.dtype_name for key, entry in Bundle(folder / CHECKPOINT).entries.items()}


def write(prefix: Path, *names: str, dtype: str = "float32") -> Path:
    with BundleWriter(prefix) as writer:
        for name in names:
            writer.add_array(name, np.ones(4, format.numpy_dtype(format.DTYPE_ENUMS[dtype])))
    return prefix


def test_the_first_rule_that_finds_something_decides(tmp_path: Path) -> None:
    source = write(tmp_path / "in", "a/kernel", "a/bias", "b/kernel", "b/bias")
    options = CastOptions(keep=("^b/bias",), rule=("bias=bfloat16", "^b=float64", "^b/bias=float64"))
    result = cast_checkpoint(source, tmp_path / "out", options)
    wanted = {"a/bias": "bfloat16", "a/kernel": "float16", "b/bias": "float32", "b/kernel": "float64"}
    assert types_of(tmp_path / "out") == wanted
    assert result.report["kept"] == [{"tensor": "b/bias", "reason": "asked for: --keep '^b/bias'"}]


def test_serving_f16_keeps_statistics_layer_norms_and_embeddings(tmp_path: Path) -> None:
    kept = {"norm/moving_variance", "norm/moving_mean", "layer_normalization_3/gamma", "block/LayerNorm/beta"}
    kept |= {"bert/embeddings/word_embeddings"}
    source = write(tmp_path / "in", "conv/kernel", "norm/gamma", *kept)
    cast_checkpoint(source, tmp_path / "out", CastOptions(preset="serving-f16"))
    assert {name for name, dtype in types_of(tmp_path / "out").items() if dtype == "float32"} == kept
    cast_checkpoint(source, tmp_path / "more", CastOptions(preset="serving-f16", rule=("embedding=float16",)))
    assert types_of(tmp_path / "more")["bert/embeddings/word_embeddings"] == "float16"


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_rules_know_the_variables_of_an_object_based_checkpoint_by_their_names(package: str, tmp_path: Path) -> None:
    import tensorflow as tf

    keras = importlib.import_module(package)
    layers = [keras.layers.Embedding(5, 4), keras.layers.LayerNormalization(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((2,), dtype="int32"), *layers])
    source = tf.train.Checkpoint(model=model).write(str(tmp_path / "in"))
    cast_checkpoint(source, tmp_path / "out", CastOptions(preset="serving-f16"))
    types = Counter(dtype for name, dtype in types_of(tmp_path / "out").items() if "layer" in name or "_op" in name)
    assert types == {"float32": 3, "float16": 2}
    again = Bundle(tmp_path / "out" / CHECKPOINT)
    assert sorted(again.entry(key).shape for key in again if again.entry(key).dtype_name == "float16") == [(3,), (4, 3)]


def test_tpu_to_gpu_casts_bfloat16_alone(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "in") as writer:
        for dtype in ("bfloat16", "float16", "float64", "int32"):
            writer.add_array(dtype, np.ones(3).astype(format.numpy_dtype(format.DTYPE_ENUMS[dtype])))
    cast_checkpoint(tmp_path / "in", tmp_path / "out", CastOptions(preset="tpu-to-gpu"))
    found = types_of(tmp_path / "out")
    assert found == {"bfloat16": "float32", "float16": "float16", "float64": "float64", "int32": "int32"}


def test_optimizer_slots_keep_their_precision_unless_asked(tmp_path: Path) -> None:
    slots = ["w/Momentum", "w/Adam_1", "beta1_power", "w/.OPTIMIZER_SLOT/opt/m/.ATTRIBUTES/VARIABLE_VALUE"]
    slots += [f"{owner}optimizer/_variables/2/.ATTRIBUTES/VARIABLE_VALUE" for owner in ("", "model/")]
    slots += [f"w/{slot}" for slot in ("adam_m", "adam_v", "Adam_2", "Momentum_1", "AdamW", "LAMBOptimizer/adam_m")]
    slots += ["training/Adam/w/m"]
    source = write(tmp_path / "in", "w", "w/ExponentialMovingAverage", *slots)
    cast_checkpoint(source, tmp_path / "out")
    assert {name for name, dtype in types_of(tmp_path / "out").items() if dtype == "float32"} == set(slots)
    cast_checkpoint(source, tmp_path / "all", CastOptions(slots=True))
    assert set(types_of(tmp_path / "all").values()) == {"float16"}


@pytest.mark.parametrize(
    ("rule", "message"),
    [("kernel", "not REGEX=TYPE"), ("kernel=flaot16", "did you mean 'float16'"), ("(=keep", "regular expression")],
)
def test_malformed_rules_are_told(rule: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compile_rules((), (rule,), None)


def test_contradicting_options_are_told(built: Built, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="contradicts --preset serving-f16"):
        CastOptions(to="float32", preset="serving-f16")
    with pytest.raises(UsageError, match="--beam without --runner"):
        CastOptions(beam=("--x",))
    with pytest.raises(UsageError, match="float16 and float32 only"):
        cast_model(built(networks.convnet), tmp_path / "out", CastOptions(rule=("kernel=bfloat16",)))
    for given in (CastOptions(to="float32", rule=("nonsense",)), CastOptions(preset="tpu-to-gpu", keep_op=("Exp",))):
        with pytest.raises(UsageError, match="--keep, --keep-op and --rule do not apply"):
            cast_model(built(networks.convnet), tmp_path / "out", given)
    with pytest.raises(UsageError, match="give a checkpoint instead"):
        cast_model(built(networks.convnet), tmp_path / "out", CastOptions(to="float64"))


def test_rules_reach_the_graph(built: Built, tmp_path: Path) -> None:
    options = CastOptions(preset="serving-f16", rule=("^dense/=keep",))
    result = cast_model(built(networks.convnet), tmp_path / "out", options)
    types = {name: variable.dtype for name, variable in read_saved_model(tmp_path / "out").variables.items()}
    assert types["dense/kernel"] == format.DTYPE_ENUMS["float32"]
    assert types["conv2d/kernel"] == format.DTYPE_ENUMS["float16"]
    assert "asked for: --rule '^dense/=keep'" in {it["reason"] for it in result.report["kept"]}
    assert decide(compile_rules((), (), "serving-f16"), "batch_normalization/moving_variance")


@pytest.fixture
def growing(tmp_path: Path) -> Path:
    """A model with an Exp and a Softmax over 100 values between two multiplications."""
    import tensorflow as tf

    class Growing(tf.Module):
        def __init__(self) -> None:
            self.weight = tf.Variable(np.random.default_rng(5).normal(0, 0.1, (4, 100)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 4])])
        def __call__(self, x: tf.Tensor) -> tf.Tensor:
            grown = tf.exp(tf.matmul(x, self.weight), name="grow")
            return tf.matmul(tf.nn.softmax(grown, name="share"), self.weight, transpose_b=True)

    model = Growing()
    tf.saved_model.save(model, str(tmp_path / "growing"), signatures=model.__call__)
    return tmp_path / "growing"


def op_types(folder: Path) -> dict[str, str]:
    nodes = read_saved_model(folder).nodes.values()
    return {node.op: format.DTYPE_NAMES[node.attr["T"].type] for node in nodes if node.op in ("Exp", "Softmax")}


def test_what_the_lists_keep_is_cast_on_request(growing: Path, tmp_path: Path) -> None:
    cast_model(growing, tmp_path / "kept")
    assert op_types(tmp_path / "kept") == {"Exp": "float32", "Softmax": "float32"}
    result = cast_model(growing, tmp_path / "cast", CastOptions(rule=("grow|share=float16",)))
    assert op_types(tmp_path / "cast") == {"Exp": "float16", "Softmax": "float16"}
    assert result.without_effect == ()
    x = np.ones((3, 4), np.float32)
    (wanted,), (found,) = (predict(folder, x=x).values() for folder in (growing, tmp_path / "cast"))
    assert np.allclose(found, wanted, atol=1e-3)


def test_flags_that_find_nothing_are_told(growing: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--keep-op MatMull: no such op; did you mean 'MatMul'\?"):
        cast_model(growing, tmp_path / "out", CastOptions(keep_op=("MatMull",)))
    options = CastOptions(keep=("nosuch", "grow"), rule=("elsewhere=keep",), keep_op=("Exp", "Conv2D"))
    result = cast_model(growing, tmp_path / "out", options)
    assert result.without_effect == ("--keep 'nosuch'", "--rule 'elsewhere=keep'", "--keep-op Conv2D")
    assert result.report["without_effect"] == list(result.without_effect)
    result = cast_checkpoint(
        write(tmp_path / "in", "w"), tmp_path / "weights", CastOptions(keep=("^v",), rule=("w=keep",))
    )
    assert result.without_effect == ("--keep '^v'",)


def test_a_bfloat16_signature_stays(built: Built, tmp_path: Path) -> None:
    cast_model(built(networks.convnet), tmp_path / "b", CastOptions(to="bfloat16", cast_signature=True))
    cast_model(tmp_path / "b", tmp_path / "wide", CastOptions(to="float32"))
    signature = read_saved_model(tmp_path / "wide").signatures["serving_default"]
    narrow = format.DTYPE_ENUMS["bfloat16"]
    assert {info.dtype for side in (signature.inputs, signature.outputs) for info in side.values()} == {narrow}
    x = images().astype(format.numpy_dtype(narrow))
    found, wanted = predict(tmp_path / "wide", image=x)["output_0"], predict(tmp_path / "b", image=x)["output_0"]
    assert found.dtype == x.dtype
    assert np.abs(found.astype(np.float32) - wanted.astype(np.float32)).max() < 0.1


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    random = np.random.default_rng(41)
    with BundleWriter(tmp_path / "in") as writer:
        for number in range(6):
            writer.add_array(f"w{number}", random.standard_normal((512, 600), np.float32))
        writer.add_array("step", np.array(3))
    return tmp_path / "in"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "checkpoint").iterdir())}


def test_threads_change_no_byte(weights: Path, tmp_path: Path) -> None:
    for threads in (1, 3):
        cast_checkpoint(weights, tmp_path / f"out{threads}", CastOptions(threads=threads, shard_mib=1))
    assert files_of(tmp_path / "out1") == files_of(tmp_path / "out3")
    one, three = (json.loads((tmp_path / f"out{threads}" / "report.json").read_text()) for threads in (1, 3))
    assert one == three
    manifests = [json.loads((tmp_path / f"out{threads}" / "manifest.json").read_text()) for threads in (1, 3)]
    assert manifests[0] == manifests[1]


def test_statistics_can_be_left_out(weights: Path, tmp_path: Path) -> None:
    result = cast_checkpoint(weights, tmp_path / "out", CastOptions(statistics=False))
    assert result.max_relative_error is None
    assert set(result.report["weights"][0]) >= {"minimum", "maximum", "absmax", "nan_count", "overflow_count"}
    assert "rms_relative_error" not in result.report["weights"][0]


def test_beam_workers_write_the_same_bytes(weights: Path, tmp_path: Path) -> None:
    here = cast_checkpoint(weights, tmp_path / "here", CastOptions(shard_mib=1))
    arguments = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    options = CastOptions(shard_mib=1, runner="DirectRunner", beam=arguments)
    there = cast_checkpoint(weights, tmp_path / "there", options)
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    assert len({(it["host"], it["process"]) for it in there.report["shards"]}) == 2
    assert {key: value for key, value in there.report.items() if key != "shards"} == here.report
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["here", "there", "in.index", *_data(tmp_path)])


def test_beam_workers_that_live_on_cast_by_the_plan_of_each_pass(tmp_path: Path, built: Built) -> None:
    options = CastOptions(on_overflow="keep", runner="DirectRunner")
    with BundleWriter(tmp_path / "in") as writer:
        writer.add_array("large", np.full(3, 1e6, np.float32))
        writer.add_array("small", np.ones(3, np.float32))
    cast_checkpoint(tmp_path / "in", tmp_path / "out", options)
    assert types_of(tmp_path / "out") == {"large": "float32", "small": "float16"}
    cast_model(built(networks.one_weight, ((1e5, 1.0), (2.0, 3.0))), tmp_path / "model", options)
    assert Bundle(tmp_path / "model" / "variables" / "variables").read("kernel").tolist() == [[1e5, 1], [2, 3]]


def test_beam_workers_put_partitioned_variables_of_a_model_together(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        ids = v1.placeholder(tf.int32, [None], name="ids")
        with v1.variable_scope("net", partitioner=v1.fixed_size_partitioner(3), use_resource=True):
            table = v1.get_variable("table", [11, 4], initializer=v1.random_normal_initializer(seed=1))
        rows = v1.nn.embedding_lookup(table, ids, partition_strategy="div")
        session.run(v1.global_variables_initializer())
        wanted = session.run(rows, {ids: np.arange(11)})
        v1.saved_model.simple_save(session, str(tmp_path / "model"), {"ids": ids}, {"rows": rows})
    cast_model(tmp_path / "model", tmp_path / "here")
    result = cast_model(tmp_path / "model", tmp_path / "there", CastOptions(runner="DirectRunner"))
    here, there = (Bundle(tmp_path / folder / "variables" / "variables") for folder in ("here", "there"))
    assert {key: there.entry(key).dtype_name for key in there} == {f"net/table/part_{it}": "float16" for it in range(3)}
    assert all(np.array_equal(here.read(key), there.read(key)) for key in here)
    found = predict(tmp_path / "there", ids=np.arange(11, dtype=np.int32))["rows"]
    assert np.array_equal(found, wanted.astype(np.float16).astype(np.float32))
    assert [it["file"] for it in result.report["shards"]] == ["variables.data-00000-of-00001"]


def _data(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("in.data-*")]


def test_a_beam_worker_that_finds_damage_says_which_tensor(weights: Path, tmp_path: Path) -> None:
    path = format.shard_path(weights, 0, 1)
    stored = bytearray(path.read_bytes())
    stored[100] ^= 1
    path.write_bytes(stored)
    with pytest.raises(CheckpointError, match="1 tensors do not match"):
        cast_checkpoint(weights, tmp_path / "out", CastOptions(runner="DirectRunner"))
    assert not (tmp_path / "out").exists()


def test_a_runner_that_is_not_there_is_a_failed_run(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(RemoteRunError, match="--runner NoSuchRunner"):
        cast_checkpoint(weights, tmp_path / "out", CastOptions(runner="NoSuchRunner"))


def test_the_component_takes_the_runner_of_the_pipeline() -> None:
    from tpu2gpu.tfx.step import on_runner

    options = CastOptions(to="bfloat16")
    assert on_runner(options, ["--direct_num_workers=2"]) == options
    found = on_runner(options, ["--runner=FlinkRunner", "--parallelism=4"])
    assert (found.to, found.runner, found.beam) == ("bfloat16", "FlinkRunner", ("--parallelism=4",))
