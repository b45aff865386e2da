"""Addresses of served models: `SCHEME+TRANSPORT://HOST:PORT/MODEL[/VERSION]`, for every protocol in the registry."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from tpu2gpu.errors import UsageError
from tpu2gpu.options import did_you_mean
from tpu2gpu.running.servers import registry
from tpu2gpu.running.servers.base import ServerAddress, ServerProtocol
from tpu2gpu.running.servers.failures import understood
from tpu2gpu.storage.publishing import title_of

_FORM = re.compile(
    r"(?P<scheme>[^+/:]+)\+(?P<transport>[^+/:]+)://"
    r"(?P<host>\[[0-9a-fA-F:]+\]|[^/:]+):(?P<port>\d+)/(?P<model>[^/]+)(?:/(?P<version>\d+))?/?"
)


class Addresses:
    """Models behind an address, as a kind of model."""

    @property
    def form(self) -> str:
        """The forms that addresses have, for messages."""
        return f"a server's address ({address_forms()})"

    def detect(self, path: str) -> bool:
        """Tell whether it is an address."""
        return is_address(path)

    def slow_imports(self, path: str) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    def open(
        self,
        path: str,
        *,
        signature: str,
        threads: int | None,
        timeout_s: float,
        trust: Sequence[str] = (),
        unverified: bool = False,
    ) -> ServerProtocol:
        """Open a served model."""
        return open_address(path, signature=signature, timeout_s=timeout_s)


def open_address(text: str, *, signature: str = "serving_default", timeout_s: float = 600.0) -> ServerProtocol:
    """Open a served model.

    Args:
        text: Its address, such as `triton+grpc://localhost:8001/digits`.
        signature: The signature; of TensorFlow Serving only.
        timeout_s: How long a response may take.

    Raises:
        UsageError: The address has another form.
        EnvironmentLacksError: Nobody answers there.
        SourceError: The server has no such model.
        SignatureError: The model has no such signature.
    """
    address = parse_address(text)
    protocol = next(each for each in registry.PROTOCOLS if each.scheme == address.scheme)
    with understood(address):
        return protocol.open(address, signature=signature, timeout_s=timeout_s)


def is_address(path: object) -> bool:
    """Tell whether it is meant to be a server's address and no path."""
    return "://" in str(path)


def parse_address(text: str) -> ServerAddress:
    """Read an address.

    Raises:
        UsageError: It has another form, or no protocol has its scheme and transport.
    """
    found = _FORM.fullmatch(text)
    known = [f"{each.scheme}+{transport}" for each in registry.PROTOCOLS for transport in each.transports]
    if found is None or f"{found['scheme']}+{found['transport']}" not in known:
        near = did_you_mean(text.partition("://")[0], known)
        raise UsageError(f"{text}: not a server's address", hint=f"give {address_forms()}{near and '; ' + near}")
    scheme, transport, host, port, model, version = found.groups(default="")
    return ServerAddress(scheme, transport, host, int(port), model, version)


def address_forms() -> str:
    """Return what an address looks like, for people: `{tfserving,triton}+{grpc,http}://HOST:PORT/MODEL[/VERSION]`."""
    schemes: dict[tuple[str, ...], list[str]] = {}
    for each in registry.PROTOCOLS:
        schemes.setdefault(each.transports, []).append(each.scheme)
    starts = (f"{_either(names)}+{_either(transports)}" for transports, names in schemes.items())
    return " or ".join(f"{start}://HOST:PORT/MODEL[/VERSION]" for start in starts)


def name_of_model(path: str | os.PathLike[str]) -> str:
    """Return what a heading calls a model: its address, or the title of its files."""
    return os.fspath(path) if is_address(path) else title_of(path)


def _either(words: tuple[str, ...] | list[str]) -> str:
    return words[0] if len(words) == 1 else "{" + ",".join(words) + "}"
