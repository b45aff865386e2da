"""A real Triton takes what the converter emits, and answers as the source does, requests batched as they come."""

from __future__ import annotations

import json
import queue
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines import triton_server
from tests.engines.triton_server import TritonServer
from tests.models import conversion_models, zoo
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.runners import open_runner
from tpu2gpu.trt_converter import triton
from tpu2gpu.trt_converter.converting import ConvertOptions, convert_model

pytestmark = pytest.mark.timeout(600)

Built = Callable[..., Path]
ROWS = (1, 3, 2, 1, 4, 1)  # of the requests that are sent at once
COUNT = sum(ROWS)


def pairs(rows: int = COUNT) -> dict[str, Array]:
    random = np.random.default_rng(12)
    return {name: random.random((rows, 3), np.float32) for name in "ab"}


MODELS: dict[str, tuple[Callable[..., Path], Callable[[], dict[str, Array]], str]] = {
    "detector": (conversion_models.jpeg_detector, lambda: {"files": zoo.jpegs(COUNT)}, "python"),
    "names": (zoo.jpeg_classifier, lambda: {"image_bytes": zoo.jpegs(COUNT)}, "onnxruntime"),
    "wires": (conversion_models.awkward_names, pairs, "onnxruntime"),
    "block": (conversion_models.gelu_block, lambda: zoo.sentences(COUNT, vocabulary=20), "python"),
    "fixed": (conversion_models.fixed_batch, lambda: {"x": pairs(2)["a"]}, "onnxruntime"),
}
# The server comes without its back end onnxruntime. Its configurations are judged all the same, profiles, accelerator
# and warm-up among them: the model.py that we emit for the back end python stands in for it.
STAND_IN = {"onnxruntime": Path(triton.__file__).with_name("triton_model.py")}


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if reason := triton_server.fetch():
        print(reason)
        pytest.skip(reason)


class Served:
    """The models in one server, and their sources."""

    def __init__(self, address: str, folders: dict[str, Path], sources: dict[str, Path]) -> None:
        from tritonclient import grpc

        self.client, self.sources = grpc.InferenceServerClient(address), sources
        self.plans = {name: json.loads((folder / "plan.json").read_text()) for name, folder in folders.items()}

    def ask(self, name: str, requests: list[dict[str, Array]]) -> list[dict[str, Array]]:
        """Sends all requests before it looks for an answer."""
        from tritonclient import grpc
        from tritonclient.utils import np_to_triton_dtype

        plan = self.plans[name]
        whole = len(plan["parts"]) == 1
        names = plan["parts"][0]["onnx_names"] if whole else {"inputs": {}, "outputs": plan["answers"]}
        answers: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
        for position, request in enumerate(requests):
            fed = []
            for key, array in request.items():
                kind = np_to_triton_dtype(array.dtype)
                shape = array.shape if array.ndim > 1 else (*array.shape, 1)
                fed.append(grpc.InferInput(names["inputs"].get(key, key), shape, kind))
                fed[-1].set_data_from_numpy(array.reshape(shape))
            self.client.async_infer(name, fed, lambda result, error, at=position: answers.put((at, result, error)))
        found: list[dict[str, Array]] = [{} for _ in requests]
        for _ in requests:
            position, result, error = answers.get(timeout=60)
            assert error is None, error
            found[position] = {
                spec["name"]: result.as_numpy(names["outputs"][spec["name"]]) for spec in plan["outputs"]
            }
        return found

    def executions(self, name: str) -> int:
        (stats,) = self.client.get_inference_statistics(name).model_stats
        return int(stats.execution_count)


@pytest.fixture(scope="module")
def served(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Every model in one server."""
    folder = tmp_path_factory.mktemp("served")
    folders = {}
    sources = {name: built(builder) for name, (builder, _, _) in MODELS.items()}
    for name, source in sources.items():
        options = ConvertOptions(backend="onnx", triton_backend=MODELS[name][2], name=name)
        folders[name] = convert_model(source, folder / name, options).target
        shutil.copytree(folders[name] / "model_repository", folder / "all", dirs_exist_ok=True)
    with TritonServer(folder / "all", back_ends=STAND_IN, timeout_s=300) as server:
        yield Served(server.grpc_address, folders, sources)


@pytest.mark.parametrize("name", MODELS)
def test_the_server_answers_as_the_source_does(served: Served, name: str) -> None:
    feeds = MODELS[name][1]()
    ends = np.cumsum(ROWS)[:-1] if name != "fixed" else []
    split = {key: np.split(array, ends) for key, array in feeds.items()}
    requests = [dict(zip(split, parts, strict=True)) for parts in zip(*split.values(), strict=True)]
    answers = served.ask(name, requests)
    for output, wanted in open_runner(served.sources[name]).run(feeds).items():
        for answer, part in zip((each[output] for each in answers), np.split(wanted, ends), strict=True):
            if part.dtype == object:
                assert answer.ravel().tolist() == part.tolist(), output
            else:
                assert answer.dtype == part.dtype
                limit = 1e-4 * np.abs(wanted).max()
                np.testing.assert_allclose(answer.reshape(part.shape), part, rtol=0, atol=limit, err_msg=output)


@pytest.mark.parametrize("name", ["wires", "detector_pre", "detector_core"])
def test_requests_that_wait_are_computed_together(served: Served, name: str) -> None:
    whole = name.partition("_")[0]
    before = served.executions(name)
    requests = [{key: array[:1] for key, array in MODELS[whole][1]().items()}] * 40
    served.ask(whole, requests)
    assert 0 < served.executions(name) - before < len(requests)
