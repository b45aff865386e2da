"""Triton, and other servers of KServe's version 2 protocol, over gRPC or HTTP.

Source: https://github.com/kserve/kserve/tree/master/docs/predict-api/v2 for the protocol; Triton's "statistics" and
"model configuration" extensions for where the time goes and what runs the model.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tpu2gpu.errors import SourceError, Tpu2GpuError
from tpu2gpu.running.arrays import Array, is_text, numpy_dtype
from tpu2gpu.running.runner import Feeds, TensorSpec, check_feeds
from tpu2gpu.running.servers.base import METADATA_S, ServerAddress, ServerProtocol
from tpu2gpu.running.servers.failures import failure, too_slow, understood, unreachable

_DTYPES = {
    "BOOL": "bool",
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BF16": "bfloat16",
    "BYTES": "string",
}
SIGNATURE = "tpu2gpu_signature"  # the parameter in a model's configuration that holds what the converter's source was
_DATATYPES = {dtype: datatype for datatype, dtype in _DTYPES.items()}
_RUNS = {"onnxruntime": "onnx"}
_PARTS = {"queue": "queue", "compute": "compute_infer", "copy_in": "compute_input", "copy_out": "compute_output"}


class Triton(ServerProtocol):
    """A model on Triton; one that the converter wrote is under the names and shapes of its source's signature.

    Args:
        address: Where it is.
        timeout_s: How long a response may take.

    Raises:
        EnvironmentLacksError: Nobody answers there.
        SourceError: The server has no such model, or it is not ready.
    """

    scheme = "triton"

    def __init__(self, address: ServerAddress, timeout_s: float) -> None:
        super().__init__(address, timeout_s)
        self._client: _GrpcClient | _HttpClient
        self._client = (_GrpcClient if address.transport == "grpc" else _HttpClient)(address, timeout_s)
        metadata = self._client.ask("get_model_metadata", address.model, address.version)
        self._server = self._client.ask("get_server_metadata")
        self._platform = str(metadata.get("platform", ""))
        served = {side: _specs(metadata.get(side, ()), address) for side in ("inputs", "outputs")}
        self._signature = _read_signature(self._config())
        self._served_inputs = {self._signature.get(spec.name, spec).name: spec for spec in served["inputs"]}
        self.inputs, self.outputs = (
            tuple(sorted((self._signature.get(spec.name, spec) for spec in specs), key=lambda spec: spec.name))
            for specs in served.values()
        )
        self._counted = self._statistics()

    @classmethod
    def open(cls, address: ServerAddress, *, signature: str, timeout_s: float) -> Triton:
        """Open a served model, which has one signature."""
        return cls(address, timeout_s)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run one request; strings come as objects of type bytes."""
        with understood(self._address), self._breakdown.request() as away:
            arrays = check_feeds(self.inputs, feeds, str(self._address))
            inputs = [self._input(spec, arrays[name]) for name, spec in self._served_inputs.items()]
            with away:
                response = self._client.infer(inputs)
            found = {name: _array(response, name, datatype) for name, datatype in self._client.outputs_of(response)}
            return dict(self._as_in_the_source(name, array) for name, array in found.items())

    def latency_breakdown_ms(self) -> dict[str, float]:
        """Return the mean time of a request in each part since last asked.

        What the server counted is taken where it counted our requests and no others.
        """
        before, self._counted = self._counted, self._statistics()
        taken = self._breakdown.take_ms()
        if taken is None:
            return {}
        client_ms, away_ms, requests = taken
        if self._counted.get("requests", 0) - before.get("requests", 0) != requests:
            return {"client": client_ms, "network_and_server": away_ms}
        spent_ms = {part: (self._counted[part] - before[part]) / requests / 1e6 for part in _PARTS}
        return {"client": client_ms, "network": max(away_ms - sum(spent_ms.values()), 0.0), **spent_ms}

    def describe(self) -> dict[str, Any]:
        """Tell what runs, and where."""
        with understood(self._address):
            return self._describe(self._core_config())

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _describe(self, config: Mapping[str, Any]) -> dict[str, Any]:
        backend = str(config.get("backend") or self._platform or "unknown back end")
        kinds = {str(group.get("kind")) for group in config.get("instance_group", ())}
        where = {"KIND_CPU": "CPU at ", "KIND_GPU": "GPU at "}.get(next(iter(kinds)), "") if len(kinds) == 1 else ""
        server = str(self._server.get("name", "server")), str(self._server.get("version", ""))
        return {
            "kind": self.kind,
            "runs": "engine" if backend.startswith("tensorrt") else _RUNS.get(backend, backend),
            "provider": f"{server[0]} {server[1]} ({backend})",
            "device": where + self._address.authority,
            "threads": None,
            "address": str(self._address),
            "versions": {server[0]: server[1]},
        }

    def _as_in_the_source(self, name: str, array: Array) -> tuple[str, Array]:
        spec = self._signature.get(name)
        if spec is None:
            return name, array
        # Triton has no empty shapes: one number for each example is [?, 1] there.
        single = spec.ranked and array.ndim == len(spec.shape) + 1 and array.shape[-1] == 1
        return spec.name, array[..., 0] if single else array

    def _input(self, spec: TensorSpec, array: Array) -> Any:
        if len(spec.shape) == array.ndim + 1:
            array = array[..., None]
        made = self._client.module.InferInput(spec.name, list(array.shape), _DATATYPES[spec.dtype])
        made.set_data_from_numpy(array.astype("float32") if spec.dtype == "bfloat16" else array)
        return made

    def _core_config(self) -> dict[str, Any]:
        """Return the configuration of what computes: of an ensemble that the converter wrote its core's."""
        config = self._config()
        steps = config.get("ensemble_scheduling", {}).get("step", ())
        core = next((str(step["model_name"]) for step in steps if str(step["model_name"]).endswith("_core")), None)
        return self._config(core) if core else config

    def _config(self, other_model: str | None = None) -> dict[str, Any]:
        which = (other_model, "") if other_model else (self._address.model, self._address.version)
        try:
            config = self._client.ask("get_model_config", *which)
        except Tpu2GpuError:  # an extension that other servers lack
            return {}
        found: dict[str, Any] = config.get("config", config)
        return found

    def _statistics(self) -> dict[str, int]:
        """Return the requests served so far, and the nanoseconds in each part; empty where it is not told."""
        try:
            with understood(self._address):
                told = self._client.ask("get_inference_statistics", self._address.model, self._address.version)
                of_versions = [one["inference_stats"] for one in told["model_stats"]]
                spent = {part: sum(int(one[name].get("ns", 0)) for one in of_versions) for part, name in _PARTS.items()}
                return {"requests": sum(int(one["success"].get("count", 0)) for one in of_versions), **spent}
        except Tpu2GpuError:
            return {}


class _GrpcClient:
    """Triton's gRPC client, which threads may share."""

    def __init__(self, address: ServerAddress, timeout_s: float) -> None:
        import tritonclient.grpc

        self.module: ModuleType = tritonclient.grpc
        self._address, self._timeout_s = address, timeout_s
        self._client = tritonclient.grpc.InferenceServerClient(address.authority)

    def ask(self, method: str, *arguments: str) -> dict[str, Any]:
        """Call a method that describes something."""
        timeout_s = min(self._timeout_s, METADATA_S)
        return self._call(method, timeout_s, *arguments, as_json=True, client_timeout=timeout_s)  # type: ignore[no-any-return]

    def infer(self, inputs: list[Any]) -> Any:
        """Send a request."""
        model, version = self._address.model, self._address.version
        return self._call("infer", self._timeout_s, model, inputs, version, client_timeout=self._timeout_s)

    def outputs_of(self, response: Any) -> list[tuple[str, str]]:
        """Return names and datatypes of what came back, by name."""
        return sorted((output.name, output.datatype) for output in response.get_response().outputs)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _call(self, method: str, timeout_s: float, *arguments: Any, **named: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, method)(*arguments, **named)
        except InferenceServerException as error:
            status = str(error.status() or "").removeprefix("StatusCode.") or "an error"
            raise failure(self._address, status, error.message() or "", timeout_s) from error


class _HttpClient:
    """Triton's HTTP client, one for each thread: threads may not share one."""

    def __init__(self, address: ServerAddress, timeout_s: float) -> None:
        import tritonclient.http

        self.module: ModuleType = tritonclient.http
        self._address, self._timeout_s = address, timeout_s
        self._own = threading.local()

    def ask(self, method: str, *arguments: str) -> dict[str, Any]:
        """Call a method that describes something."""
        timeout_s = min(self._timeout_s, METADATA_S)
        client = self._make(timeout_s)
        try:
            return self._call(client, method, timeout_s, *arguments)  # type: ignore[no-any-return]
        finally:
            client.close()

    def infer(self, inputs: list[Any]) -> Any:
        """Send a request."""
        if not hasattr(self._own, "client"):
            self._own.client = self._make(self._timeout_s)
        model, version = self._address.model, self._address.version
        return self._call(self._own.client, "infer", self._timeout_s, model, inputs, version)

    def outputs_of(self, response: Any) -> list[tuple[str, str]]:
        """Return names and datatypes of what came back, by name."""
        return sorted((output["name"], output["datatype"]) for output in response.get_response()["outputs"])

    def close(self) -> None:
        """Close this thread's connection; those of other threads end with them."""
        if hasattr(self._own, "client"):
            self._own.client.close()

    def _make(self, timeout_s: float) -> Any:
        return self.module.InferenceServerClient(
            self._address.authority, connection_timeout=timeout_s, network_timeout=timeout_s
        )

    def _call(self, client: Any, method: str, timeout_s: float, *arguments: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(client, method)(*arguments)
        except InferenceServerException as error:
            raise failure(self._address, str(error.status() or "an error"), error.message() or "", timeout_s) from error
        except TimeoutError as error:
            raise too_slow(self._address, timeout_s) from error
        except OSError as error:
            raise unreachable(self._address, error) from error


def _read_signature(config: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """Return what the source had, by the names in the server; empty for models that the converter did not write."""
    told = config.get("parameters", {}).get(SIGNATURE, {}).get("string_value", "{}")
    return {name: TensorSpec.from_json(spec) for name, spec in json.loads(told).items()}


def _specs(tensors: Any, address: ServerAddress) -> tuple[TensorSpec, ...]:
    if unknown := [f"{one['name']}: {one['datatype']}" for one in tensors if one["datatype"] not in _DTYPES]:
        raise SourceError(f"{address}: types that are not known", details=unknown)
    return tuple(
        TensorSpec(
            one["name"],
            _DTYPES[one["datatype"]],
            tuple(None if int(size) < 0 else int(size) for size in one.get("shape", ())),
        )
        for one in sorted(tensors, key=lambda one: str(one["name"]))
    )


def _array(response: Any, name: str, datatype: str) -> Array:
    array: Array = response.as_numpy(name)
    return array if is_text(array) else array.astype(numpy_dtype(_DTYPES[datatype]), copy=False)
