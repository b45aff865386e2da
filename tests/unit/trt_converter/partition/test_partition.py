"""Models that no engine takes whole are cut in parts, and the parts together answer as the whole does."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import conversion_models as models
from tests.models import zoo
from tests.models.example_files import write_examples
from tests.models.networks import convnet, vocabulary
from tpu2gpu.errors import ConversionError, UsageError
from tpu2gpu.graphs.edit import new_node
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.running.comparison.parity import compare
from tpu2gpu.running.loading import load
from tpu2gpu.running.opening import open_runner
from tpu2gpu.storage.publishing import verify_model
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions, ConvertResult
from tpu2gpu.trt_converter.partition.assignment import Assignment, assign
from tpu2gpu.trt_converter.partition.build_parts import name_outputs, partition_model
from tpu2gpu.trt_converter.partition.costs import Costs, costs_of
from tpu2gpu.trt_converter.partition.min_cut import Network

Built = Callable[..., Path]
SIGNATURE = "serving_default"


def read(source: Path) -> tuple[ServingModel, Costs]:
    model = read_saved_model(source)
    model.signatures = {SIGNATURE: model.signatures[SIGNATURE]}
    name_outputs(model, SIGNATURE)
    model.prune()
    return model, costs_of(model)


def assigned(source: Path, *, for_engine: bool = True) -> tuple[ServingModel, Assignment | None]:
    model, costs = read(source)
    return model, assign(model, lambda: costs, for_engine=for_engine)


def ops_of(model: ServingModel, assignment: Assignment, part: int) -> set[str]:
    return {model.nodes[name].op for name, where in assignment.parts.items() if where == part}


# ------------------------------------------------------------------------------------------------ the cut


@given(st.integers(4, 7), st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 9)), max_size=20))
def test_no_cut_is_smaller(count: int, edges: list[tuple[int, int, int]]) -> None:
    edges = [(start, end, capacity) for start, end, capacity in edges if start < count and end < count]
    network = Network(count)
    for start, end, capacity in edges:
        network.add(start, end, capacity)
    found = network.cut(0, count - 1)

    def size(side: set[int]) -> int:
        return sum(capacity for start, end, capacity in edges if start in side and end not in side)

    inner = range(1, count - 1)
    every = [{0, *some} for length in range(count - 1) for some in itertools.combinations(inner, length)]
    assert 0 in found and count - 1 not in found
    assert size(found) == min(size(side) for side in every)


def test_decoding_stays_before_and_a_table_after_what_computes(built: Built) -> None:
    model, assignment = assigned(built(zoo.jpeg_classifier))
    assert assignment is not None
    assert {"StatelessWhile", "TensorListStack"} <= ops_of(model, assignment, 0)
    assert {"Conv2D", "MatMul", "ArgMax"} <= ops_of(model, assignment, 1)
    assert "LookupTableFindV2" in ops_of(model, assignment, 2)
    assert not {"Conv2D", "MatMul"} & (ops_of(model, assignment, 0) | ops_of(model, assignment, 2))
    why = {model.nodes[name].op: reason for name, reason in assignment.unsupported.items()}
    assert why["LookupTableFindV2"] == "a table of keys and values"


def test_non_max_suppression_is_for_onnx_runtime_and_not_for_engines(built: Built) -> None:
    source = built(zoo.retinanet)
    model, assignment = assigned(source)
    assert assignment is not None
    assert "CombinedNonMaxSuppression" in ops_of(model, assignment, 2)
    assert not ops_of(model, assignment, 0)
    assert assigned(source, for_engine=False)[1] is None


@pytest.mark.parametrize("builder", [convnet, models.recurrent, zoo.lstm_v1, zoo.transformer, models.gelu_block])
def test_what_engines_take_is_left_whole(built: Built, builder: Any) -> None:
    assert assigned(built(builder))[1] is None


def test_a_model_without_anything_for_an_engine_is_refused_with_all_reasons(built: Built) -> None:
    with pytest.raises(ConversionError, match="nothing that computes is left") as caught:
        assigned(built(models.jpeg_reader))
    assert any(detail.startswith("StatelessWhile: inside it: ") for detail in caught.value.details)
    assert caught.value.hint


def by_values(folder: Path) -> Path:
    """A loop that halves until all is small, between two products: `x` float32 [?, 8] -> `y` [?, 8]."""
    import tensorflow as tf

    kernel = tf.constant(np.random.default_rng(3).normal(size=(8, 8)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        y = tf.matmul(tf.nn.relu(tf.matmul(x, kernel)), kernel)
        halved = tf.while_loop(lambda y: tf.reduce_max(y) > 1, lambda y: [y / 2], [y])[0]
        return {"y": tf.matmul(halved, kernel)}

    tf.saved_model.save(tf.Module(), str(folder), signatures=serve)
    return folder


def test_a_loop_that_depends_on_values_leaves_the_larger_side_to_the_engine(built: Built) -> None:
    model, assignment = assigned(built(by_values))
    assert assignment is not None
    assert "how often the loop runs depends on the input's values" in assignment.unsupported.values()
    core = [model.nodes[name].op for name, part in assignment.parts.items() if part == 1]
    assert core.count("MatMul") == 2


def test_matrices_and_waves_that_are_taken_apart_count_for_what_they_cost() -> None:
    costs = Costs({"x": (None, 64, 64), "inverse": (None, 64, 64), "waves": (None, 64, 33)}, {})
    assert costs.flops(new_node("inverse", "MatrixInverse", ["x"])) == 2 * 64**3
    assert costs.flops(new_node("waves", "RFFT", ["x", "length"])) == 5 * 64 * 64 * 12


def test_the_report_says_where_and_why_and_how_many_bytes(built: Built) -> None:
    model, costs = read(built(models.jpeg_detector))
    assignment = assign(model, lambda: costs, for_engine=True)
    assert assignment is not None
    found = partition_model(model, SIGNATURE, assignment, costs)
    assert [part.name for part in found.parts] == ["pre", "core", "post"]
    pre, core, post = found.report["parts"]
    assert core["ops"]["Conv2D"] == 2
    # 16 places, 8x8x3 -> 16, and 3x3x16 -> 6, two operations for each product
    assert core["flops_per_example"] > 2 * 16 * (8 * 8 * 3 * 16 + 3 * 3 * 16 * 6)
    assert pre["unsupported"] and post["unsupported"] and not core["unsupported"]
    assert post["why"]["CombinedNonMaxSuppression"].startswith("non-max suppression")
    first = found.report["boundary_tensors"][0]
    assert (first["from"], first["to"], first["bytes_per_example"]) == ("pre", ["core"], 32 * 32 * 3 * 4)
    assert 0.9 < found.report["core_share"] < 1


# ------------------------------------------------------------------------------------------------ whole conversions


@pytest.fixture(scope="module")
def detector(built: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ConvertResult]:
    source = built(models.jpeg_detector)
    return source, convert_model(source, tmp_path_factory.mktemp("partition") / "serving")


@pytest.mark.engine
def test_a_detector_of_jpeg_files_gets_an_engine_for_its_core(detector: tuple[Path, ConvertResult]) -> None:
    _, result = detector
    plan = json.loads((result.target / "plan.json").read_text())
    assert [(part["name"], part["runs_on"]) for part in plan["parts"]] == [
        ("pre", "cpu"),
        ("core", "gpu"),
        ("post", "cpu"),
    ]
    pre, core, post = plan["parts"]
    assert (pre["saved_model"], pre["onnx"]) == ("parts/pre", None)
    assert core["engine"] == "engines/model.engine"
    assert (post["saved_model"], post["onnx"]) == (None, "parts/post/model.onnx")
    assert result.engine_coverage == result.metrics["engine_coverage"] == plan["engine_coverage"]
    assert 0.9 < result.engine_coverage < 1
    verify_model(result.target)
    assert "CombinedNonMaxSuppression" in (result.target / "README.md").read_text()


@pytest.mark.engine
def test_the_parts_answer_as_the_source_on_real_photographs(detector: tuple[Path, ConvertResult]) -> None:
    source, result = detector
    feeds = {"files": zoo.jpegs(6)}
    model = load(result.target)
    wanted = open_runner(source).run(feeds)
    assert wanted["valid"].min() > 0
    for name, parity in compare(wanted, model.run(feeds)).items():
        assert parity.relative_error < 1e-5, name
    described = model.describe()
    assert [part["name"] for part in described["parts"]] == ["pre", "core", "post"]
    assert described["parts"][0]["kind"] == "saved_model"
    model.close()


@pytest.mark.engine
def test_the_parts_are_a_candidate_like_any_other(detector: tuple[Path, ConvertResult], tmp_path: Path) -> None:
    source, converted = detector
    examples = write_examples(tmp_path / "eval.tfrecord", {"files": zoo.jpegs(10)})
    options = EvaluateOptions(requests=20, max_requests=20, block_requests=5, warm_up_requests=5)
    result = evaluate_model(source, [converted.target], [str(examples)], tmp_path / "out", options)
    assert result.candidate.model_blessed, result.candidate.reasons
    figures = result.candidate.figures
    assert [part["name"] for part in figures.runner["parts"]] == ["pre", "core", "post"]
    assert figures.digest == verify_model(converted.target)["digest"]
    assert set(result.candidate.box_outputs) == {"boxes", "scores", "classes", "valid"}


@pytest.mark.engine
def test_triton_is_told_how_the_parts_are_chained(detector: tuple[Path, ConvertResult]) -> None:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    repository = detector[1].target / "model_repository"
    assert sorted(path.name for path in repository.iterdir()) == ["model", "model_core", "model_post", "model_pre"]
    text = (repository / "model" / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert config.platform == "ensemble"
    assert [step.model_name for step in config.ensemble_scheduling.step] == ["model_pre", "model_core", "model_post"]
    pre, core, _ = config.ensemble_scheduling.step
    assert set(pre.output_map.values()) == set(core.input_map.values())
    assert [(tensor.name, list(tensor.dims)) for tensor in config.input] == [("files", [1])]


def test_words_that_a_table_numbers_are_looked_up_before_onnx_in_the_batches_of_the_profile(
    built: Built, tmp_path: Path
) -> None:
    source = built(vocabulary)
    result = convert_model(source, tmp_path / "serving", ConvertOptions(backend="onnx", profile=("words=1:4:16",)))
    assert (result.engine_coverage, result.verified_level) == (0.0, "onnx_cpu")
    configurations = sorted((result.target / "model_repository").glob("*/config.pbtxt"))
    assert len(configurations) > 2
    assert all("max_batch_size: 16" in path.read_text() for path in configurations)
    (core,) = (
        each for each in json.loads((result.target / "plan.json").read_text())["parts"] if each["name"] == "core"
    )
    (boundary,) = core["inputs"]
    text = (result.target / "model_repository" / "model_core" / "config.pbtxt").read_text()
    for shape in (f"{boundary['name']}:1", f"{boundary['name']}:4", f"{boundary['name']}:16"):
        assert f'"{shape}"' in text or f'"{shape}x' in text
    readme = (result.target / "README.md").read_text()
    assert "| 17 | 8 | 1.12 or newer | 22.07 or newer |" in readme
    assert "its file is tested with Triton 24.10 (2.51)" in readme
    feeds = {"words": np.array([b"a", b"b", b"nobody knows it"], object)}
    np.testing.assert_array_equal(load(result.target).run(feeds)["score"], open_runner(source).run(feeds)["score"])


def test_a_profile_for_no_input_of_any_part_is_told_before_anything_is_converted(built: Built, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        convert_model(built(vocabulary), tmp_path / "serving", ConvertOptions(backend="onnx", profile=("word=1:4:16",)))
    assert caught.value.details == ("word: the model has no such input; did you mean 'words'?",)
    assert "onnx" not in json.loads((tmp_path / "serving.report.json").read_text())


@pytest.mark.engine
def test_auto_goes_without_an_engine_where_the_builder_does_not_take_the_model(built: Built, tmp_path: Path) -> None:
    result = convert_model(built(models.product, "float64"), tmp_path / "serving")
    assert result.backend == "onnx"
    assert "float64" in result.report["no_engine_because"]
    assert not (tmp_path / "serving" / "engines").exists()
    assert "No engine: the model computes in float64" in (tmp_path / "serving" / "README.md").read_text()
