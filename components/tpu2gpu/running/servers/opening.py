"""Opens a model on a server that is there, by its address."""

from __future__ import annotations

from tpu2gpu.running.runner import Runner
from tpu2gpu.running.servers.addresses import parse_address


def open_address(text: str, *, signature: str = "serving_default", timeout_s: float = 600.0) -> Runner:
    """Open a served model.

    Args:
        text: Its address, such as `triton+grpc://localhost:8001/digits`.
        signature: The signature; of TensorFlow Serving only.
        timeout_s: How long an answer may take.

    Raises:
        UsageError: The address has another form.
        EnvironmentLacksError: Nobody answers there.
        SourceError: The server has no such model.
        SignatureError: The model has no such signature.
    """
    address = parse_address(text)
    if address.protocol == "triton":
        from tpu2gpu.running.servers.triton import TritonRunner

        return TritonRunner(address, timeout_s=timeout_s)
    if address.transport == "grpc":
        from tpu2gpu.running.servers.tfserving_grpc import TfServingGrpcRunner

        return TfServingGrpcRunner(address, signature=signature, timeout_s=timeout_s)
    from tpu2gpu.running.servers.tfserving_rest import TfServingRestRunner

    return TfServingRestRunner(address, signature=signature, timeout_s=timeout_s)
