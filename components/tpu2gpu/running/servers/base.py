"""The contract of a server's protocol, and where a served model is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import attrs

from tpu2gpu.running.arrays import Array
from tpu2gpu.running.runner import Feeds, TensorSpec
from tpu2gpu.running.servers.client_breakdown import ClientBreakdown

METADATA_S = 30.0
"""The longest that a server may take to describe a model."""


@attrs.frozen
class ServerAddress:
    """A model on a server.

    Attributes:
        scheme: What names the protocol, such as `tfserving` or `triton`.
        transport: `grpc` or `http`.
        host: Name or number.
        port: TCP port.
        model: The server's name of the model.
        version: Its version; the server's choice when empty.
    """

    scheme: str
    transport: str
    host: str
    port: int
    model: str
    version: str = ""

    @property
    def authority(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """Return the form that `parse_address` reads."""
        version = f"/{self.version}" if self.version else ""
        return f"{self.scheme}+{self.transport}://{self.authority}/{self.model}{version}"


class ServerProtocol(ABC):
    """A model on a server, asked through the server's protocol.

    A subclass is a protocol: named in `registry.PROTOCOLS`, it is known to addresses, help texts and errors.

    Args:
        address: Where the model is.
        timeout_s: How long a response may take.

    Attributes:
        scheme: What the protocol's addresses begin with: `triton` in `triton+grpc://host:8001/digits`.
        transports: What may follow it there.
        inputs: What the model takes, sorted by name.
        outputs: What the model gives, sorted by name.
        concurrency: How many requests are sent at once, from as many threads.
    """

    scheme: ClassVar[str]
    transports: ClassVar[tuple[str, ...]] = ("grpc", "http")
    kind = "server"
    concurrency = 32
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __init__(self, address: ServerAddress, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._breakdown = ClientBreakdown()

    @classmethod
    @abstractmethod
    def open(cls, address: ServerAddress, *, signature: str, timeout_s: float) -> ServerProtocol:
        """Open a served model.

        Args:
            address: Where it is; of this scheme.
            signature: Which signature, where the server knows signatures.
            timeout_s: How long a response may take.

        Raises:
            EnvironmentLacksError: Nobody answers there.
            SourceError: The server has no such model.
            SignatureError: The model has no such signature.
        """

    @abstractmethod
    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run one request, within `self._breakdown.request()`; strings come as objects of type bytes.

        Raises:
            SignatureError: The feeds do not fit the inputs, or the server does not take them.
            WorkerError: There is no answer in time.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Tell what runs, and where.

        `runs` is `saved_model`, `onnx` or `engine` where it is one of them: it decides on the level of verification.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def latency_breakdown_ms(self) -> dict[str, float]:
        """Return the mean time of a request in the client, and in network and server, since last asked.

        A server that tells how it spends its time has more parts: `network`, `queue`, `compute`, `copy_in`, `copy_out`.
        """
        taken = self._breakdown.take_ms()
        return {} if taken is None else {"client": taken[0], "network_and_server": taken[1]}
