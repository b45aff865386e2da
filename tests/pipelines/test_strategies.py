"""Training uses a TPU where there is one, and waits for none where there is none."""

from __future__ import annotations

import time

import pytest

from tpu2gpu.errors import EnvironmentLacksError
from tpu2gpu_pipelines.trainers.strategies import choose_strategy


@pytest.fixture
def no_tpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TPU_NAME", raising=False)
    monkeypatch.setattr("tpu2gpu_pipelines.trainers.strategies.has_tpu", lambda: False)


@pytest.mark.usefixtures("no_tpu")
def test_without_a_tpu_the_default_strategy_is_there_at_once() -> None:
    import tensorflow as tf

    started = time.monotonic()
    assert choose_strategy() is tf.distribute.get_strategy()
    assert time.monotonic() - started < 1


@pytest.mark.usefixtures("no_tpu")
@pytest.mark.parametrize("address", ["grpc://127.0.0.1:1", "grpc://tpu.invalid:8470", "grpc://127.0.0.1:port"])
def test_a_named_tpu_that_does_not_answer_is_an_error_not_a_run_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("TPU_NAME", address)
    with pytest.raises(EnvironmentLacksError, match="nothing listens there"):
        choose_strategy()


@pytest.mark.usefixtures("no_tpu")
def test_a_local_tpu_that_is_not_there_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPU_NAME", "local")
    with pytest.raises(EnvironmentLacksError, match="TPU 'local': does not answer"):
        choose_strategy()
