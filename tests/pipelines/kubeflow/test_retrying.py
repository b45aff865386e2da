"""A step is tried again in its pod after what may pass, and after nothing else."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tpu2gpu.errors import EnvironmentLacksError, ParityRefusedError
from tpu2gpu_pipelines.kubeflow.container.retrying import may_pass, run_with_retries


class Step:
    """Fails with each of some errors, then ends well."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.waited = list(errors), list[float]()

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def chained(outer: Exception, inner: Exception) -> Exception:
    try:
        raise outer from inner
    except Exception as error:
        return error


def unavailable() -> Exception:
    import grpc

    class Busy(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

    Busy.__module__ = "grpc._channel"
    return Busy("busy")


def tensorflow_unavailable() -> Exception:
    import tensorflow as tf

    return tf.errors.UnavailableError(None, None, "the bucket is busy")


def urllib3_error() -> Exception:
    from urllib3.exceptions import ProtocolError

    return ProtocolError("broken")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset"),
        TimeoutError("late"),
        OSError(errno.ESTALE, "stale file handle"),
        unavailable(),
        tensorflow_unavailable(),
        urllib3_error(),
        chained(EnvironmentLacksError("gs://a/b: cannot be read"), ConnectionError("refused")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert may_pass(error)
    step = Step(error)
    assert run_with_retries(step, 1, [], sleep=step.waited.append) == "done"
    assert step.waited == [10.0]


@pytest.mark.parametrize(
    "error",
    [ParityRefusedError("no"), ValueError("a mistake"), OSError(errno.ENOSPC, "disk full"), MemoryError()],
    ids=lambda error: type(error).__name__,
)
def test_what_is_final_is_not(error: Exception) -> None:
    step = Step(error)
    with pytest.raises(type(error)):
        run_with_retries(step, 5, [], sleep=step.waited.append)
    assert not step.waited


def test_it_waits_longer_each_time_and_gives_up_in_the_end() -> None:
    step = Step(*(TimeoutError(str(number)) for number in range(8)))
    with pytest.raises(TimeoutError, match="6"):
        run_with_retries(step, 6, [], sleep=step.waited.append)
    assert step.waited == [10, 20, 40, 80, 160, 300]


def test_what_a_failed_try_left_is_gone_before_the_next(tmp_path: Path) -> None:
    folder, file = tmp_path / "model", tmp_path / "metrics"

    def run() -> None:
        if file.exists():
            raise AssertionError("the former try's output is there")
        folder.mkdir()
        file.touch()
        if len(tries) < 2:
            tries.append(1)
            raise ConnectionError("lost")

    tries: list[int] = []
    run_with_retries(run, 3, [str(folder), str(file)], sleep=lambda seconds: None)
    assert file.exists()
