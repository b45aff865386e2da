"""An engine is built while its ONNX file is compared: the last file's alone, and nothing stays of what nobody takes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tpu2gpu.errors import ConversionError, UsageError
from tpu2gpu.trt_converter.backends.early_build import Built, EarlyBuild
from tpu2gpu.trt_converter.request import MOST_BYTES


class Builder:
    """Builds of files by number: even ones are done at once, odd ones only when they are stopped."""

    def __init__(self, folder: Path) -> None:
        self.engine, self.stopped = folder / "engines" / "model.engine", list[int]()

    def plan(self, written: Mapping[str, Any]) -> dict[str, Any]:
        if written["file"] < 0:
            raise UsageError("the profiles do not fit")
        return {"file": written["file"]}

    def build(self, arguments: dict[str, Any], stop: threading.Event) -> Built:
        number = arguments["file"]
        self.engine.parent.mkdir(exist_ok=True)
        self.engine.write_text(str(number))
        if number == 4:
            raise ConversionError("the builder refuses it")
        if number % 2:
            assert stop.wait(60)
            self.stopped.append(number)
        return {"file": number}, 7


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def written(number: int, size_bytes: int = 1) -> dict[str, Any]:
    return {"file": number, "size_bytes": size_bytes}


def early(builder: Builder) -> EarlyBuild:
    return EarlyBuild(builder.plan, builder.build, builder.engine)


def test_what_was_built_is_taken_and_stays(builder: Builder) -> None:
    with early(builder) as build:
        build.start(written(2))
        assert build.take({"file": 2}) == ({"file": 2}, 7)
    assert builder.engine.read_text() == "2"


def test_a_newer_file_stops_the_build_of_the_one_before(builder: Builder) -> None:
    with early(builder) as build:
        build.start(written(1))
        build.start(written(2))
        assert builder.stopped == [1]
        assert build.take({"file": 2}) == ({"file": 2}, 7)


@pytest.mark.parametrize("number", [1, 2])
def test_nothing_stays_of_a_build_that_nobody_takes(number: int, builder: Builder) -> None:
    with early(builder) as build:
        build.start(written(number))
    assert not builder.engine.parent.exists()
    assert builder.stopped == [1] * (number % 2)


def test_a_refused_conversion_stops_the_build(builder: Builder) -> None:
    with pytest.raises(ConversionError, match="another answer"), early(builder) as build:
        build.start(written(1))
        raise ConversionError("another answer")
    assert builder.stopped == [1]
    assert not builder.engine.parent.exists()


def test_an_engine_of_other_arguments_is_not_taken(builder: Builder) -> None:
    with early(builder) as build:
        build.start(written(2))
        assert build.take({"file": 6}) is None
        assert not builder.engine.parent.exists()


def test_what_a_builder_refuses_is_told_to_whoever_takes_it(builder: Builder) -> None:
    with early(builder) as build:
        build.start(written(4))
        with pytest.raises(ConversionError, match="the builder refuses it"):
            build.take({"file": 4})


@pytest.mark.parametrize("which", [written(-1), written(2, MOST_BYTES + 1)], ids=["unfit profiles", "large file"])
def test_nothing_begins_early_where_it_cannot_or_costs_too_much_memory(which: dict[str, Any], builder: Builder) -> None:
    with early(builder) as build:
        build.start(which)
        assert build.take({"file": which["file"]}) is None
