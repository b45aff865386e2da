"""TensorFlow Serving: its PredictionService on gRPC, and its REST interface.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tpu2gpu.errors import SourceError
from tpu2gpu.running.arrays import Array, is_float, is_text, numpy_dtype
from tpu2gpu.running.runner import Feeds, TensorSpec, check_feeds, choose_signature
from tpu2gpu.running.servers.base import METADATA_S, ServerAddress, ServerProtocol
from tpu2gpu.running.servers.failures import failure, too_slow, understood, unreachable

_NO_LIMIT = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_OK = 200


class TfServing(ServerProtocol):
    """A signature of a model on TensorFlow Serving."""

    scheme = "tfserving"
    _interface: str
    _version: str

    @classmethod
    def open(cls, address: ServerAddress, *, signature: str, timeout_s: float) -> TfServing:
        """Open a signature of a served model."""
        runner: type[_GrpcRunner] | type[_RestRunner] = _GrpcRunner if address.transport == "grpc" else _RestRunner
        return runner(address, signature, timeout_s)

    def describe(self) -> dict[str, Any]:
        """Tell what runs, and where."""
        return {
            "kind": self.kind,
            "runs": "saved_model",
            "provider": f"TensorFlow Serving over {self._interface}",
            "device": self._address.authority,
            "threads": None,
            "address": str(self._address),
            "model_version": self._version,
            "versions": {},
        }

    def _take(self, signature: Any) -> None:
        """Take inputs and outputs from a SignatureDef."""
        self.inputs, self.outputs = _specs(signature.inputs), _specs(signature.outputs)


class _GrpcRunner(TfServing):
    """A signature through the PredictionService."""

    _interface = "gRPC"

    def __init__(self, address: ServerAddress, signature: str, timeout_s: float) -> None:
        import grpc
        from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, prediction_service_pb2_grpc

        super().__init__(address, timeout_s)
        self._channel = grpc.insecure_channel(address.authority, options=_NO_LIMIT)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_pb2.ModelSpec(name=address.model, signature_name=signature)
        if address.version:
            self._model.version.value = int(address.version)
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.CopyFrom(self._model)
        response = self._ask(self._stub.GetModelMetadata, request, min(timeout_s, METADATA_S))
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        self._take(choose_signature(signatures.signature_def, signature, address))
        self._version = str(response.model_spec.version.value)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run one request; strings come as objects of type bytes."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        with understood(self._address), self._breakdown.request() as away:
            request = predict_pb2.PredictRequest()
            request.model_spec.CopyFrom(self._model)
            for name, array in check_feeds(self.inputs, feeds, str(self._address)).items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
            with away:
                response = self._ask(self._stub.Predict, request, self._timeout_s)
            return {name: tf.make_ndarray(tensor) for name, tensor in sorted(response.outputs.items())}

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _ask(self, call: Callable[..., Any], request: Any, timeout_s: float) -> Any:
        import grpc

        try:
            return call(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise failure(self._address, error.code().name, error.details() or "", timeout_s) from error


class _RestRunner(TfServing):
    """A signature through the REST interface; values travel as JSON, strings in base64."""

    _interface = "REST"

    def __init__(self, address: ServerAddress, signature: str, timeout_s: float) -> None:
        import urllib3
        from google.protobuf import json_format
        from tensorflow.core.protobuf import meta_graph_pb2

        super().__init__(address, timeout_s)
        self._signature = signature
        self._pool = urllib3.HTTPConnectionPool(address.host, address.port, maxsize=self.concurrency, retries=False)
        version = f"/versions/{address.version}" if address.version else ""
        self._path = f"/v1/models/{address.model}{version}"
        response = self._ask("GET", f"{self._path}/metadata", None, min(timeout_s, METADATA_S))
        try:
            signatures = response["metadata"]["signature_def"]["signature_def"]
            self._version = str(response["model_spec"].get("version", ""))
        except (KeyError, TypeError) as error:
            raise SourceError(f"{address}: the server's metadata hold no signatures") from error
        chosen = choose_signature(signatures, signature, address)
        self._take(json_format.ParseDict(chosen, meta_graph_pb2.SignatureDef(), ignore_unknown_fields=True))

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run one request; strings come as objects of type bytes."""
        with understood(self._address), self._breakdown.request() as away:
            arrays = check_feeds(self.inputs, feeds, str(self._address))
            columns = {name: _values(array) for name, array in arrays.items()}
            body = json.dumps({"signature_name": self._signature, "inputs": columns}).encode()
            with away:
                response = self._ask("POST", f"{self._path}:predict", body, self._timeout_s)
            return self._outputs(response)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _ask(self, method: str, path: str, body: bytes | None, timeout_s: float) -> Any:
        import urllib3

        headers = {"Content-Type": "application/json"}
        try:
            response = self._pool.request(method, path, body=body, headers=headers, timeout=timeout_s)
        except urllib3.exceptions.NewConnectionError as error:
            raise unreachable(self._address, error) from error
        except urllib3.exceptions.TimeoutError as error:
            raise too_slow(self._address, timeout_s) from error
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(self._address, error) from error
        try:
            found = json.loads(response.data)
        except ValueError as error:
            raise SourceError(f"{self._address}: the server's response is no JSON ({error})") from error
        if response.status != _OK:
            says = str(found.get("error", found)) if isinstance(found, dict) else str(found)
            raise failure(self._address, str(response.status), says, timeout_s)
        return found

    def _outputs(self, response: Any) -> dict[str, Array]:
        outputs = response["outputs"]
        if len(self.outputs) == 1 and not (isinstance(outputs, dict) and self.outputs[0].name in outputs):
            outputs = {self.outputs[0].name: outputs}  # the only output comes without its name
        known = {spec.name: spec for spec in self.outputs}
        try:
            return {name: _array(known[name], values) for name, values in sorted(outputs.items())}
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{self._address}: the response does not fit the model's outputs ({error})") from error


def _values(array: Array) -> Any:
    """Return an array as JSON knows it."""
    if is_text(array):
        return _encoded(array.tolist())
    return (array.astype(np.float64) if is_float(array.dtype) else array).tolist()


def _encoded(texts: Any) -> Any:
    if isinstance(texts, list):
        return [_encoded(one) for one in texts]
    return {"b64": base64.b64encode(texts if isinstance(texts, bytes) else str(texts).encode()).decode()}


def _array(spec: TensorSpec, values: Any) -> Array:
    if spec.dtype != "string":
        return np.asarray(values, np.float64 if "float" in spec.dtype else None).astype(numpy_dtype(spec.dtype))
    decoded: Array = np.asarray(_decoded(values), object)
    return decoded


def _decoded(values: Any) -> Any:
    if isinstance(values, list):
        return [_decoded(one) for one in values]
    return base64.b64decode(values["b64"]) if isinstance(values, dict) else str(values).encode()


def _specs(infos: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """Return a signature's TensorInfos as specifications."""
    import tensorflow as tf

    return tuple(
        TensorSpec(
            name,
            tf.as_dtype(info.dtype).name,
            tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim),
            not info.tensor_shape.unknown_rank,
        )
        for name, info in sorted(infos.items())
    )
