"""Asks a model on TensorFlow Serving through its REST interface.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tpu2gpu.errors import SourceError
from tpu2gpu.running.arrays import Array, is_float, is_text, numpy_dtype
from tpu2gpu.running.runner import TensorSpec, check_feeds
from tpu2gpu.running.servers import tfserving
from tpu2gpu.running.servers.addresses import ServerAddress
from tpu2gpu.running.servers.client_breakdown import ClientBreakdown
from tpu2gpu.running.servers.failures import failure, too_slow, unreachable

_OK = 200


class TfServingRestRunner:
    """A signature of a model on TensorFlow Serving; values travel as JSON, strings in base64.

    Args:
        address: Where it is.
        signature: Which signature.
        timeout_s: How long an answer may take.

    Raises:
        EnvironmentLacksError: Nobody answers there.
        SourceError: The server has no such model.
        SignatureError: The model has no such signature.
    """

    kind = "server"
    concurrency = tfserving.CONCURRENCY

    def __init__(self, address: ServerAddress, *, signature: str, timeout_s: float) -> None:
        import urllib3
        from google.protobuf import json_format
        from tensorflow.core.protobuf import meta_graph_pb2

        self._address, self._signature, self._timeout_s = address, signature, timeout_s
        self._breakdown = ClientBreakdown()
        self._pool = urllib3.HTTPConnectionPool(address.host, address.port, maxsize=self.concurrency, retries=False)
        version = f"/versions/{address.version}" if address.version else ""
        self._path = f"/v1/models/{address.model}{version}"
        answer = self._ask("GET", f"{self._path}/metadata", None, min(timeout_s, tfserving.METADATA_S))
        try:
            signatures = answer["metadata"]["signature_def"]["signature_def"]
            self._version = str(answer["model_spec"].get("version", ""))
        except (KeyError, TypeError) as error:
            raise SourceError(f"{address}: the server's metadata hold no signatures") from error
        chosen = json_format.ParseDict(
            tfserving.choose_signature(signatures, signature, address),
            meta_graph_pb2.SignatureDef(),
            ignore_unknown_fields=True,
        )
        self.inputs, self.outputs = tfserving.specs(chosen.inputs), tfserving.specs(chosen.outputs)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one request; strings come as objects of type bytes."""
        with self._breakdown.request() as away:
            arrays = check_feeds(self.inputs, feeds, str(self._address))
            columns = {name: _values(array) for name, array in arrays.items()}
            body = json.dumps({"signature_name": self._signature, "inputs": columns}).encode()
            with away:
                answer = self._ask("POST", f"{self._path}:predict", body, self._timeout_s)
            return self._outputs(answer)

    def latency_breakdown_ms(self) -> dict[str, float]:
        """The mean time of a request in the client, and in network and server, since this was last asked."""
        return tfserving.latency_breakdown_ms(self._breakdown)

    def describe(self) -> dict[str, Any]:
        """What runs, and where."""
        return tfserving.describe(self._address, self._version)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _ask(self, method: str, path: str, body: bytes | None, timeout_s: float) -> Any:
        import urllib3

        headers = {"Content-Type": "application/json"}
        try:
            answer = self._pool.request(method, path, body=body, headers=headers, timeout=timeout_s)
        except urllib3.exceptions.NewConnectionError as error:
            raise unreachable(self._address, error) from error
        except urllib3.exceptions.TimeoutError as error:
            raise too_slow(self._address, timeout_s) from error
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(self._address, error) from error
        try:
            found = json.loads(answer.data)
        except ValueError as error:
            raise SourceError(f"{self._address}: the server's answer is no JSON ({error})") from error
        if answer.status != _OK:
            says = str(found.get("error", found)) if isinstance(found, dict) else str(found)
            raise failure(self._address, str(answer.status), says, timeout_s)
        return found

    def _outputs(self, answer: Any) -> dict[str, Array]:
        outputs = answer["outputs"]
        if len(self.outputs) == 1 and not (isinstance(outputs, dict) and self.outputs[0].name in outputs):
            outputs = {self.outputs[0].name: outputs}  # the only output comes without its name
        known = {spec.name: spec for spec in self.outputs}
        try:
            return {name: _array(known[name], values) for name, values in sorted(outputs.items())}
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{self._address}: the answer does not fit the model's outputs ({error})") from error


def _values(array: Array) -> Any:
    """An array as JSON knows it."""
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
