"""Ask a server many small requests through the gRPC runner, and watch the memory of the process that asks.

    python -m tests.drills.served_requests [REQUESTS]

The server gives the same response to all: what is measured is who asks.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil

from tpu2gpu.running.opening import open_runner
from tpu2gpu.running.runner import Runner

SAMPLES = 200
_CLIENTS = 2
_SETTLED = 0.25  # of the requests: pools of threads and of memory fill before
_MIB = 1 << 20


def ask(requests: int) -> list[tuple[int, int]]:
    """Send so many requests from a few threads.

    Returns:
        How many had been answered, and the resident memory of this process then, in bytes.
    """
    with _served() as address:
        runner = open_runner(address)
        samples = [(0, _resident_bytes())]
        for number in range(SAMPLES):
            answered = requests * (number + 1) // SAMPLES
            _ask_in_threads(runner, answered - samples[-1][0])
            samples.append((answered, _resident_bytes()))
            print(f"{answered:,} {samples[-1][1] / _MIB:.2f} MiB", file=sys.stderr, flush=True)
        runner.close()
    return samples


def bytes_per_request(samples: Sequence[tuple[int, int]]) -> float:
    """Fit a line by least squares through what was sampled once the process had settled; return its slope."""
    settled = [sample for sample in samples if sample[0] >= samples[-1][0] * _SETTLED]
    mean = [sum(values) / len(settled) for values in zip(*settled, strict=True)]
    across = sum((requests - mean[0]) ** 2 for requests, _ in settled)
    return sum((requests - mean[0]) * (resident - mean[1]) for requests, resident in settled) / across


def _ask_in_threads(runner: Runner, requests: int) -> None:
    feeds = {"x": np.ones((1, 6), np.float32)}

    def ask_each(count: int) -> None:
        for _ in range(count):
            runner.run(feeds)

    shares = [requests // _CLIENTS + (number < requests % _CLIENTS) for number in range(_CLIENTS)]
    with ThreadPoolExecutor(_CLIENTS) as threads:
        list(threads.map(ask_each, shares))


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


@contextmanager
def _served() -> Iterator[str]:
    """Serve from a process of its own."""
    server = subprocess.Popen([sys.executable, "-m", __spec__.name, "serve"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield f"tfserving+grpc://127.0.0.1:{int(server.stdout.readline())}/digits"
    finally:
        server.terminate()
        server.wait()


def serve() -> None:
    """Serve a model of one input and one output, and print the port."""
    import grpc
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

    signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    for infos, name, size in ((signature.inputs, "x", 6), (signature.outputs, "y", 4)):
        infos[name].dtype = tf.float32.as_datatype_enum
        infos[name].tensor_shape.CopyFrom(tf.TensorShape([None, size]).as_proto())
    response = predict_pb2.PredictResponse()
    response.outputs["y"].CopyFrom(tf.make_tensor_proto(np.ones((1, 4), np.float32)))

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            return response

        def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            found = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=request.model_spec)
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def={"serving_default": signature})
            found.metadata["signature_def"].Pack(signatures)
            return found

    server = grpc.server(ThreadPoolExecutor(_CLIENTS))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    threading.Event().wait()


def main(requests: str = "1000000") -> None:
    """Ask, and print how the memory grew."""
    if requests == "serve":
        serve()
    samples = ask(int(requests))
    quarters = ", ".join(f"{resident / _MIB:.1f}" for _, resident in samples[:: SAMPLES // 4])
    print(f"{samples[-1][0]:,} requests; MiB at each quarter: {quarters}; ", end="")
    print(f"slope {bytes_per_request(samples):.3f} bytes a request")


if __name__ == "__main__":
    main(*sys.argv[1:])
