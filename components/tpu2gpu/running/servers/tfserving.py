"""What both of TensorFlow Serving's protocols have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tpu2gpu.errors import SignatureError
from tpu2gpu.options import did_you_mean
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.running.servers.addresses import ServerAddress
from tpu2gpu.running.servers.client_breakdown import ClientBreakdown

CONCURRENCY = 32
METADATA_S = 30.0  # the longest that a server may take to describe a model


def choose_signature(signatures: Mapping[str, Any], name: str, address: ServerAddress) -> Any:
    """The SignatureDef of a name.

    Raises:
        SignatureError: The model has no such signature.
    """
    if name not in signatures:
        known = sorted(signatures)
        raise SignatureError(
            f"{address}: no signature '{name}', it has {', '.join(known) or 'none'}", hint=did_you_mean(name, known)
        )
    return signatures[name]


def specs(infos: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """A signature's TensorInfos by name, as specifications."""
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


def describe(address: ServerAddress, version: str) -> dict[str, Any]:
    """A runner's description."""
    return {
        "kind": "server",
        "runs": "saved_model",
        "provider": f"TensorFlow Serving over {'gRPC' if address.transport == 'grpc' else 'REST'}",
        "device": address.authority,
        "threads": None,
        "address": str(address),
        "model_version": version,
        "versions": {},
    }


def latency_breakdown_ms(breakdown: ClientBreakdown) -> dict[str, float]:
    """The mean time of a request in the client and away; the server does not tell how it spent the latter."""
    taken = breakdown.take_ms()
    return {} if taken is None else {"client": taken[0], "network_and_server": taken[1]}
