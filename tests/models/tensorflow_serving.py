"""TensorFlow Serving's two interfaces in Python: its PredictionService on real gRPC, its REST paths, TensorFlow behind.

Its own server is in no package index. This one takes and gives the same messages, by the protocol's own definitions,
and answers with real TensorFlow; what it is asked is parsed by nothing of ours.

    python -m tests.models.tensorflow_serving SAVED_MODEL NAME GRPC_PORT REST_PORT [STOPPED_FILE]
"""

from __future__ import annotations

import base64
import json
import math
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

VERSION = 3
FEATURES, CLASSES = 6, 4


def served_model(folder: Path) -> Path:
    """Two signatures: the function of `evaluation_models` by default, and `words`, from strings to strings."""
    import tensorflow as tf

    from tests.models.evaluation_models import weights

    module = tf.Module()
    module.w = tf.Variable(weights())

    @tf.function(input_signature=[tf.TensorSpec([None, FEATURES], tf.float32, name="x")])
    def scores(x: Any) -> Any:
        raw = x @ module.w
        return {"scores": raw, "doubled": 2 * raw}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def words(text: Any) -> Any:
        return {"upper": tf.strings.upper(text)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.bfloat16, name="b"), tf.TensorSpec([None], tf.int64)])
    def narrow(b: Any, n: Any) -> Any:
        return {"same": b, "big": n + 1}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": scores, "words": words, "narrow": narrow})
    return folder


class Served:
    """A SavedModel under a name, as both interfaces see it.

    Attributes:
        delay_s: Answers wait so long.
        answers_left: After so many it dies.
    """

    def __init__(self, folder: Path, name: str) -> None:
        import tensorflow as tf
        from tensorflow.core.protobuf import saved_model_pb2

        self.name, self.delay_s, self.answers_left = name, 0.0, math.inf
        self.loaded = tf.saved_model.load(str(folder))
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.signatures = saved.meta_graphs[0].signature_def

    def known(self, name: str, version: int) -> bool:
        return name == self.name and version in (0, VERSION)

    def answer(self, signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
        time.sleep(self.delay_s)
        self.answers_left -= 1
        if self.answers_left < 0:
            print("CUDA error: an illegal memory access was encountered", flush=True)
            os._exit(9)
        return self.loaded.signatures[signature or "serving_default"](**inputs)


def serve_grpc(served: Served, port: int = 0) -> tuple[Any, int]:
    """Starts the gRPC server; gives it and its port."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            self._check(request, context)
            try:
                inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
                outputs = served.answer(request.model_spec.signature_name, inputs)
            except Exception as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error).splitlines()[0])
            answer = predict_pb2.PredictResponse(model_spec=request.model_spec)
            for name, tensor in outputs.items():
                answer.outputs[name].CopyFrom(tf.make_tensor_proto(tensor))
            return answer

        def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            self._check(request, context)
            answer = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=request.model_spec)
            answer.model_spec.version.value = VERSION
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in served.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            answer.metadata["signature_def"].Pack(signatures)
            return answer

        def _check(self, request: Any, context: Any) -> None:
            spec = request.model_spec
            if not served.known(spec.name, spec.version.value):
                context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")

    server = grpc.server(ThreadPoolExecutor(8))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


def serve_rest(served: Served, port: int = 0) -> tuple[Any, int]:
    """Starts the REST server; gives it and its port."""
    from google.protobuf.json_format import MessageToDict

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name, version = self._model(self.path.removesuffix("/metadata"))
            if not served.known(name, version):
                return self._send(404, {"error": f"Servable not found for request: Latest({name})"})
            signatures = {
                name: MessageToDict(one, preserving_proto_field_name=True) for name, one in served.signatures.items()
            }
            spec = {"name": name, "signature_name": "", "version": str(VERSION)}
            return self._send(200, {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}})

        def do_POST(self) -> None:
            import tensorflow as tf

            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name, version = self._model(self.path.removesuffix(":predict"))
            if not served.known(name, version):
                return self._send(404, {"error": f"Servable not found for request: Latest({name})"})
            signature = request.get("signature_name", "serving_default")
            infos = served.signatures[signature].inputs
            try:
                inputs = {
                    key: tf.constant(_plain(values), tf.as_dtype(infos[key].dtype))
                    for key, values in request["inputs"].items()
                }
                outputs = {key: _json(tensor.numpy()) for key, tensor in served.answer(signature, inputs).items()}
            except Exception as error:
                return self._send(400, {"error": str(error).splitlines()[0]})
            only = next(iter(outputs.values())) if len(outputs) == 1 else outputs
            return self._send(200, {"outputs": only})

        def log_message(self, *said: Any) -> None:
            pass

        def _model(self, path: str) -> tuple[str, int]:
            parts = path.strip("/").split("/")  # v1/models/NAME[/versions/V]
            return parts[2], int(parts[4]) if len(parts) > 4 else 0

        def _send(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, server.server_address[1]


def _plain(values: Any) -> Any:
    if isinstance(values, list):
        return [_plain(one) for one in values]
    return base64.b64decode(values["b64"]) if isinstance(values, dict) else values


def _json(array: Any) -> Any:
    if array.dtype == object:
        return [one.decode() for one in array.ravel()]
    return (array if array.dtype.isbuiltin == 1 else array.astype(np.float32)).tolist()


def main(folder: str, name: str, grpc_port: str, rest_port: str, stopped: str = "", answers: str = "inf") -> None:
    """Serves until it is told to end, or has given that many answers and dies."""
    served = Served(Path(folder), name)
    served.answers_left = float(answers)
    servers = serve_grpc(served, int(grpc_port)), serve_rest(served, int(rest_port))
    print(f"serving {name}", flush=True)
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *told: over.set())
    over.wait()
    if stopped:
        Path(stopped).write_text("in order")
    servers[0][0].stop(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
