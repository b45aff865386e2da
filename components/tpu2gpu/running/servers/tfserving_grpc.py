"""Asks a model on TensorFlow Serving through its PredictionService on gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tpu2gpu.running.arrays import Array
from tpu2gpu.running.runner import check_feeds
from tpu2gpu.running.servers import tfserving
from tpu2gpu.running.servers.addresses import ServerAddress
from tpu2gpu.running.servers.client_breakdown import ClientBreakdown
from tpu2gpu.running.servers.failures import failure

_NO_LIMIT = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class TfServingGrpcRunner:
    """A signature of a model on TensorFlow Serving.

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
        import grpc
        from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, prediction_service_pb2_grpc

        self._address, self._timeout_s, self._breakdown = address, timeout_s, ClientBreakdown()
        self._channel = grpc.insecure_channel(address.authority, options=_NO_LIMIT)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_pb2.ModelSpec(name=address.model, signature_name=signature)
        if address.version:
            self._model.version.value = int(address.version)
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.CopyFrom(self._model)
        answer = self._ask(self._stub.GetModelMetadata, request, min(timeout_s, tfserving.METADATA_S))
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        chosen = tfserving.choose_signature(signatures.signature_def, signature, address)
        self.inputs, self.outputs = tfserving.specs(chosen.inputs), tfserving.specs(chosen.outputs)
        self._version = str(answer.model_spec.version.value)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one request; strings come as objects of type bytes."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        with self._breakdown.request() as away:
            request = predict_pb2.PredictRequest()
            request.model_spec.CopyFrom(self._model)
            for name, array in check_feeds(self.inputs, feeds, str(self._address)).items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
            with away:
                answer = self._ask(self._stub.Predict, request, self._timeout_s)
            return {name: tf.make_ndarray(tensor) for name, tensor in sorted(answer.outputs.items())}

    def latency_breakdown_ms(self) -> dict[str, float]:
        """The mean time of a request in the client, and in network and server, since this was last asked."""
        return tfserving.latency_breakdown_ms(self._breakdown)

    def describe(self) -> dict[str, Any]:
        """What runs, and where."""
        return tfserving.describe(self._address, self._version)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _ask(self, call: Callable[..., Any], request: Any, timeout_s: float) -> Any:
        import grpc

        try:
            return call(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise failure(self._address, error.code().name, error.details() or "", timeout_s) from error
