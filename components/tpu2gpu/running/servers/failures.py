"""Errors for what goes wrong between a client and its server."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tpu2gpu.errors import EnvironmentLacksError, SignatureError, SourceError, Tpu2GpuError, WorkerError, foreign_errors
from tpu2gpu.running.servers.base import ServerAddress

_UNREACHABLE = ("UNAVAILABLE",)
_SLOW = ("DEADLINE_EXCEEDED", "499", "504")
_UNFIT = ("INVALID_ARGUMENT", "400")


def failure(address: ServerAddress, status: str, says: str, timeout_s: float) -> Tpu2GpuError:
    """Return the error for a response that is none.

    Args:
        address: Who was asked.
        status: The name of a gRPC status, or the number of an HTTP status.
        says: The server's words.
        timeout_s: How long it had.
    """
    says = " ".join(says.split()) or status
    if status in _UNREACHABLE:
        return unreachable(address, says)
    if status in _SLOW:
        return too_slow(address, timeout_s)
    if status in _UNFIT:
        return SignatureError(f"{address}: the server does not take the request: {says}")
    return SourceError(f"{address}: the server says {status}: {says}")


def unreachable(address: ServerAddress, why: object) -> EnvironmentLacksError:
    """Return the error for an address where nobody listens."""
    hint = "start the server, or give the address where it listens"
    return EnvironmentLacksError(f"{address}: nobody answers at {address.authority} ({why})", hint=hint)


def too_slow(address: ServerAddress, timeout_s: float) -> WorkerError:
    """Return the error for a server that hangs, or takes too long."""
    return WorkerError(f"{address}: no answer within {timeout_s:g} s", hint="raise the time limit")


def understood(address: ServerAddress) -> AbstractContextManager[None]:
    """Return a block in which an answer is read: whatever parsers raise, the server is not one of its protocol.

    Raises:
        SourceError: An answer has another form.
    """
    message = f"{address}: the server's answer is not of its protocol"
    return foreign_errors(SourceError, message, hint="give a server of this kind", let_pass=(ImportError, MemoryError))
