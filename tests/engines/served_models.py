"""Converted models in a real Triton, asked as clients ask: many requests at once, of one row or several."""

from __future__ import annotations

import json
import queue
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from tests.engines.triton_server import TritonServer
from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.loading import load
from tpu2gpu.running.opening import open_runner
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.layouts import triton
from tpu2gpu.trt_converter.options import ConvertOptions

Built = Callable[..., Path]
ROWS = (1, 3, 2, 1, 4, 1)  # of the requests that are sent at once
COUNT = sum(ROWS)
# The server comes without its back end onnxruntime. Its configurations are judged all the same, profiles, accelerator
# and warm-up among them: the model.py that we emit for the back end python stands in for it.
STAND_IN = {"onnxruntime": Path(triton.__file__).with_name("triton_model.py")}


@attrs.frozen(kw_only=True)
class Model:
    """A model, and how it comes into the server.

    Attributes:
        builder: What builds its SavedModel.
        feeds: What it is asked.
        back_end: What runs it in Triton.
        arguments: For the builder.
        precision: What it is cast to before.
        options: For the conversion.
        rows: The rows of each request.
        tolerance: How far outputs may be from the source's, relative to the largest.
    """

    builder: Callable[..., Path]
    feeds: Callable[[], dict[str, Array]]
    back_end: str = "onnxruntime"
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    precision: str = "float32"
    options: Mapping[str, Any] = attrs.field(factory=dict)
    rows: tuple[int, ...] = ROWS
    tolerance: float = 1e-4

    def requests(self, feeds: Mapping[str, Array]) -> list[dict[str, Array]]:
        """The feeds, a few rows for each request."""
        split = {key: np.split(array, np.cumsum(self.rows)[:-1]) for key, array in feeds.items()}
        return [dict(zip(split, parts, strict=True)) for parts in zip(*split.values(), strict=True)]


class Served:
    """The models in one server, their serving folders and their sources."""

    def __init__(
        self,
        addresses: Mapping[str, str],
        models: Mapping[str, Model],
        folders: Mapping[str, Path],
        sources: Mapping[str, Path],
    ) -> None:
        from tritonclient import grpc

        self.addresses, self.models = addresses, models
        self.client = grpc.InferenceServerClient(addresses["grpc"])
        self.folders, self.sources = folders, sources
        self._plans = {name: json.loads((folder / "plan.json").read_text()) for name, folder in folders.items()}

    def ask(self, name: str, requests: list[dict[str, Array]]) -> list[dict[str, Array]]:
        """Sends all requests before it looks for an answer; none may fail."""
        outputs = self.try_all(name, requests)
        errors = [each for each in outputs if isinstance(each, Exception)]
        assert not errors, errors[0]
        return [each for each in outputs if not isinstance(each, Exception)]

    def try_all(self, name: str, requests: list[dict[str, Array]]) -> list[dict[str, Array] | Exception]:
        """Sends all requests before it looks for an answer, or an error."""
        from tritonclient import grpc
        from tritonclient.utils import np_to_triton_dtype

        plan = self._plans[name]
        whole = len(plan["parts"]) == 1
        names = plan["parts"][0]["onnx_names"] if whole else {"inputs": {}, "outputs": plan["output_tensors"]}
        results: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
        for position, request in enumerate(requests):
            fed = []
            for key, array in request.items():
                kind = np_to_triton_dtype(array.dtype)
                shape = array.shape if array.ndim > 1 else (*array.shape, 1)
                fed.append(grpc.InferInput(names["inputs"].get(key, key), shape, kind))
                fed[-1].set_data_from_numpy(array.reshape(shape))
            self.client.async_infer(name, fed, lambda result, error, at=position: results.put((at, result, error)))
        found: list[dict[str, Array] | Exception] = [{} for _ in requests]
        for _ in requests:
            position, result, error = results.get(timeout=120)
            found[position] = error or {
                spec["name"]: result.as_numpy(names["outputs"][spec["name"]]) for spec in plan["outputs"]
            }
        return found

    def executions(self, name: str) -> int:
        """How often a model has computed something."""
        (stats,) = self.client.get_inference_statistics(name).model_stats
        return int(stats.execution_count)

    def check(self, name: str) -> None:
        """The server answers as the source does, and as our own runner of the same folder."""
        model = self.models[name]
        feeds = model.feeds()
        outputs = self.ask(name, model.requests(feeds))
        ends = np.cumsum(model.rows)[:-1]
        for runner, tolerance in (
            (open_runner(self.sources[name]), model.tolerance),
            (load(self.folders[name]), min(1e-4, model.tolerance)),
        ):
            for output, wanted in runner.run(feeds).items():
                for served, part in zip((each[output] for each in outputs), np.split(wanted, ends), strict=True):
                    if part.dtype == object:
                        assert served.ravel().tolist() == part.tolist(), output
                    else:
                        assert served.dtype == part.dtype
                        limit = tolerance * np.abs(wanted).max()
                        found = served.reshape(part.shape)
                        np.testing.assert_allclose(found, part, rtol=0, atol=limit, err_msg=output)


@contextmanager
def serving(models: Mapping[str, Model], built: Built, folder: Path) -> Iterator[Served]:
    """Converts all models, and serves them from one repository."""
    folders, sources = {}, {}
    for name, model in models.items():
        sources[name] = source = built(model.builder, **model.arguments)
        if model.precision != "float32":
            source = cast_model(source, folder / f"{name}-{model.precision}", CastOptions(to=model.precision)).target
        options = ConvertOptions(**{"backend": "onnx", "triton_backend": model.back_end, "name": name, **model.options})
        folders[name] = convert_model(source, folder / name, options).target
        shutil.copytree(folders[name] / "model_repository", folder / "all", dirs_exist_ok=True)
    with TritonServer(folder / "all", back_ends=STAND_IN, timeout_s=600) as server:
        addresses = {"grpc": server.grpc_address, "http": server.http_address}
        yield Served(addresses, models, folders, sources)
