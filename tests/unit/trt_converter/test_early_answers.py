"""One process answers what a conversion is compared on while another converts; what it did not answer is run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.networks import convnet
from tpu2gpu.errors import SignatureError, SourceError
from tpu2gpu.running.local.reference_runner import ReferenceRunner
from tpu2gpu.trt_converter import early_answers as early
from tpu2gpu.trt_converter.early_answers import AnsweredReference, answer, early_answers
from tpu2gpu.trt_converter.feeds import saved_feeds
from tpu2gpu.trt_converter.options import ConvertOptions
from tpu2gpu.trt_converter.request import Request

Built = Callable[..., Path]
SIZES = [{"batches": [1, 8], "shapes": {}}]


@pytest.fixture
def source(built: Built) -> Path:
    return built(convnet)


@pytest.fixture
def answers(source: Path, tmp_path: Path) -> Path:
    """Let a source answer probes."""
    answer(
        source=str(source),
        signature="serving_default",
        trust=(),
        folder=str(tmp_path),
        sizes=SIZES,
        examples=[],
        reading={},
        limit=64,
    )
    (tmp_path / "ended").touch()
    return tmp_path


def never() -> ReferenceRunner:
    raise AssertionError("it was loaded")


def test_what_is_answered_is_not_run_again(source: Path, answers: Path) -> None:
    answered, loaded = AnsweredReference(answers, never), ReferenceRunner(source)
    assert (answered.inputs, answered.outputs) == (loaded.inputs, loaded.outputs)
    assert (answered.widened, answered.computes) == (loaded.widened, loaded.computes)
    batches = saved_feeds(answers).batches
    assert len(batches) > 2
    for batch in reversed(batches):
        wanted, found = loaded.run(batch), answered.run(batch)
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("change", [-0.0, 1.0, "shape"])
def test_any_other_request_is_run(source: Path, answers: Path, change: float | str) -> None:
    image = np.zeros((1, 8, 8, 1), np.float32)
    other = np.zeros((2, 8, 8, 1), np.float32) if change == "shape" else image + np.float32(change)
    other[0, 0, 0, 0] = 0.123
    loads: list[ReferenceRunner] = []

    def load() -> ReferenceRunner:
        loads.append(ReferenceRunner(source))
        return loads[-1]

    found = AnsweredReference(answers, load).run({"image": other})
    assert len(loads) == 1
    for name, array in loads[0].run({"image": other}).items():
        np.testing.assert_array_equal(found[name], array)


def test_feeds_that_do_not_fit_are_refused_as_the_source_would(answers: Path) -> None:
    with pytest.raises(SignatureError, match="image"):
        AnsweredReference(answers, never).run({"picture": np.zeros((1, 8, 8, 1), np.float32)})


def test_the_answers_are_waited_for(source: Path, answers: Path) -> None:
    (answers / "ended").unlink()
    ended: list[float] = []

    def end() -> None:
        time.sleep(0.3)
        ended.append(time.monotonic())
        (answers / "ended").touch()

    thread = threading.Thread(target=end)
    thread.start()
    AnsweredReference(answers, never)
    assert ended and time.monotonic() >= ended[0]
    thread.join()


@pytest.mark.parametrize("with_folder", [True, False])
def test_without_answers_the_source_is_loaded(source: Path, tmp_path: Path, with_folder: bool) -> None:
    (tmp_path / "ended").touch()
    loaded = ReferenceRunner(source)
    answered = AnsweredReference(tmp_path if with_folder else None, lambda: loaded)
    assert answered.inputs == loaded.inputs
    image = np.ones((1, 8, 8, 1), np.float32)
    for name, array in loaded.run({"image": image}).items():
        np.testing.assert_array_equal(answered.run({"image": image})[name], array)


class Failing:
    """A request whose process fails."""

    def __init__(self, source: Path) -> None:
        self.source, self.options, self.reading = source, ConvertOptions(), dict[str, Any]()

    example_limit = 64

    def in_child(self, *_: Any, **__: Any) -> None:
        raise SourceError("it is damaged")


def test_a_process_that_fails_is_the_conversions_to_tell(source: Path) -> None:
    def load() -> ReferenceRunner:
        raise SourceError("it is damaged, says the conversion")

    with early_answers(Failing(source), sizes=SIZES) as folder:  # type: ignore[arg-type]
        assert folder is not None
        with pytest.raises(SourceError, match="says the conversion"):
            AnsweredReference(folder, load)
    assert not folder.exists()


def test_a_large_source_is_not_loaded_twice(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "MOST_BYTES", 100)
    with early_answers(Failing(source), sizes=SIZES) as folder:  # type: ignore[arg-type]
        assert folder is None


def test_the_process_goes_with_the_conversion(source: Path) -> None:
    request = Request.of(source, ConvertOptions())
    before = threading.active_count()
    with pytest.raises(SourceError, match="another reason"), early_answers(request, sizes=SIZES):
        raise SourceError("another reason")
    assert threading.active_count() == before
