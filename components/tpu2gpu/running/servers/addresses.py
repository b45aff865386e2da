"""Where a served model is: protocol, host and port, name, version."""

from __future__ import annotations

import os
import re

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.storage.publishing import name_of

FORMS = "{tfserving,triton}+{grpc,http}://HOST:PORT/MODEL[/VERSION]"
_FORM = re.compile(
    r"(?P<protocol>tfserving|triton)\+(?P<transport>grpc|http)://"
    r"(?P<host>\[[0-9a-fA-F:]+\]|[^/:]+):(?P<port>\d+)/(?P<model>[^/]+)(?:/(?P<version>\d+))?/?"
)


@attrs.frozen
class ServerAddress:
    """A model on a server.

    Attributes:
        protocol: `tfserving` or `triton`; the latter is KServe's version 2 with Triton's extensions where they are.
        transport: `grpc` or `http`.
        host: Name or number.
        port: TCP port.
        model: What the server calls the model.
        version: Its version; the server's choice when empty.
    """

    protocol: str
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
        """The form that `parse_address` reads."""
        version = f"/{self.version}" if self.version else ""
        return f"{self.protocol}+{self.transport}://{self.authority}/{self.model}{version}"


def is_address(path: object) -> bool:
    """Whether it is meant to be a server's address and no path."""
    return "://" in str(path)


def parse_address(text: str) -> ServerAddress:
    """Read an address.

    Raises:
        UsageError: It has another form.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(f"{text}: not a server's address", hint=f"give {FORMS}")
    protocol, transport, host, port, model, version = found.groups(default="")
    return ServerAddress(protocol, transport, host, int(port), model, version)


def name_of_model(path: str | os.PathLike[str]) -> str:
    """What people call a model: its address, or its folder's or file's name."""
    return os.fspath(path) if is_address(path) else name_of(path)
