"""Retries inside a step's pod, of errors that may pass: storage, network, a service that is busy.

A default Kubeflow starts a step again when its pod was deleted or could not start (Argo's `OnError`), but not when the
container ended with an exit code of its own, whatever `retries` says. So the entrypoint itself tries such a step again.
A refusal, bad input or a mistake of ours is final: trying again would give the same.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tpu2gpu.errors import first_line

_PASSING_ERRNOS = frozenset(
    getattr(errno, name)
    for name in "EAGAIN EBUSY ECONNABORTED ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH EIO ENETDOWN ENETRESET "
    "ENETUNREACH EPIPE EREMOTEIO ESTALE ETIMEDOUT".split()
)
# By name, since none of these libraries is loaded where nothing of it was used.
_PASSING_CLASSES = frozenset(
    """
    tensorflow.python.framework.errors_impl.AbortedError tensorflow.python.framework.errors_impl.DeadlineExceededError
    tensorflow.python.framework.errors_impl.UnavailableError urllib3.exceptions.HTTPError
    requests.exceptions.ConnectionError requests.exceptions.Timeout google.api_core.exceptions.RetryError
    google.api_core.exceptions.ServerError google.auth.exceptions.TransportError
    botocore.exceptions.HTTPClientError botocore.exceptions.ConnectionError
    aiohttp.client_exceptions.ClientConnectionError
    tpu2gpu_pipelines.kubeflow.cluster.kubernetes_api.UnreachableError
    """.split()
)
_PASSING_STATUSES = frozenset(("ABORTED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"))
_FIRST_WAIT_S, _FACTOR, _LONGEST_WAIT_S = 10.0, 2.0, 300.0

Result = TypeVar("Result")


def run_with_retries(
    run: Callable[[], Result],
    retries: int,
    outputs: Iterable[str],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Run a step, and again after an error that may pass.

    Args:
        run: The step.
        retries: How often to try again.
        outputs: Where the step writes; what a failed try left there goes before the next.
        sleep: Waits; ten seconds at first, twice as long each time, at most five minutes.
    """
    outputs = list(outputs)
    for tries in range(retries):
        try:
            return run()
        except Exception as error:
            if not may_pass(error):
                raise
            wait_s = min(_FIRST_WAIT_S * _FACTOR**tries, _LONGEST_WAIT_S)
            logging.getLogger("tpu2gpu").warning(
                "%s: may pass, so the step is tried again in %g s (%d of %d)",
                first_line(error),
                wait_s,
                tries + 1,
                retries,
            )
        for path in outputs:
            _remove(Path(path))
        sleep(wait_s)
    return run()


def may_pass(error: BaseException) -> bool:
    """Tell whether an error, or one that it was raised from, may be gone at the next try."""
    return any(_is_passing(each) for each in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING_ERRNOS:
        return True
    if any(f"{cls.__module__}.{cls.__qualname__}" in _PASSING_CLASSES for cls in type(error).__mro__):
        return True
    status = getattr(error, "code", None)  # of gRPC
    return callable(status) and type(error).__module__.startswith("grpc") and _name(status()) in _PASSING_STATUSES


def _name(status: object) -> str:
    return str(getattr(status, "name", ""))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
