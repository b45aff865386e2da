"""The cache of steps: by content, whole or not there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import ConversionError, ParityRefusedError, Tpu2GpuError, UsageError, WorkerError
from tpu2gpu.optimizer.cache import CachedRefusalError, StepCache, user_cache
from tpu2gpu.optimizer.content import digest_of_code, digest_of_files, digest_of_source, digests_of_named
from tpu2gpu.storage.paths import place
from tpu2gpu.storage.publishing import publish


def writes(text: str) -> Callable[[Path], None]:
    def make(target: Path) -> None:
        with publish(target, about={"step": "test"}) as staging:
            (staging.folder / "text").write_text(text)

    return make


def raises(error: Tpu2GpuError) -> Callable[[Path], None]:
    def make(target: Path) -> None:
        raise error

    return make


@pytest.fixture
def cache(tmp_path: Path) -> StepCache:
    return StepCache(tmp_path / "cache")


def test_what_was_made_of_the_same_is_taken_again_and_what_was_not_is_made(cache: StepCache) -> None:
    first = cache.take("cast", "half", {"to": "float16"}, writes("1"))
    again = cache.take("cast", "half", {"to": "float16"}, writes("2"))
    other = cache.take("cast", "half", {"to": "bfloat16"}, writes("3"))
    assert [it.cached for it in (first, again, other)] == [False, True, False]
    assert [(it.path / "text").read_text() for it in (first, again, other)] == ["1", "1", "3"]


@pytest.mark.parametrize("damage", ["changed", "gone", "more", "no manifest"])
def test_a_damaged_output_is_made_anew(cache: StepCache, damage: str) -> None:
    path = cache.take("cast", "half", {}, writes("1")).path
    if damage == "changed":
        (path / "text").write_text("x")
    elif damage == "gone":
        (path / "text").unlink()
    elif damage == "more":
        (path / "more").touch()
    else:
        (path / "manifest.json").unlink()
    again = cache.take("cast", "half", {}, writes("2"))
    assert not again.cached
    assert (again.path / "text").read_text() == "2"


@pytest.mark.parametrize("error", [ParityRefusedError("off", details=["a"]), ConversionError("no op", hint="cut")])
def test_a_refusal_of_the_same_is_taken_again(cache: StepCache, error: Tpu2GpuError) -> None:
    with pytest.raises(type(error)):
        cache.take("convert", "x", {}, raises(error))
    with pytest.raises(CachedRefusalError) as caught:
        cache.take("convert", "x", {}, writes("never"))
    assert caught.value.error.to_json() == error.to_json()
    assert cache.take("convert", "x", {"other": 1}, writes("made")).path.is_dir()


@pytest.mark.parametrize("error", [WorkerError("out of memory"), UsageError("disk full")])
def test_what_the_machine_refused_is_tried_again(cache: StepCache, error: Tpu2GpuError) -> None:
    with pytest.raises(type(error)):
        cache.take("convert", "x", {}, raises(error))
    assert not cache.take("convert", "x", {}, writes("made")).cached


def test_an_interrupt_leaves_no_output(cache: StepCache, tmp_path: Path) -> None:
    def make(target: Path) -> None:
        with publish(target, about={}) as staging:
            (staging.folder / "text").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.take("convert", "x", {}, make)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not cache.take("convert", "x", {}, writes("made")).cached


def test_of_two_runs_at_once_the_second_takes_what_the_first_made(cache: StepCache) -> None:
    def make(target: Path) -> None:
        cache.take("cast", "half", {}, writes("faster"))
        writes("slower")(target)

    assert (cache.take("cast", "half", {}, make).path / "text").read_text() == "faster"


def test_what_nobody_took_for_a_month_goes_and_nothing_else(cache: StepCache, tmp_path: Path) -> None:
    old, new = (cache.take("cast", "half", {"n": n}, writes("1")).path.parent for n in range(2))
    mine = tmp_path / "cache" / "mine"
    mine.mkdir()
    for path in (old, mine):
        os.utime(path, (time.time() - 40 * 86_400,) * 2)
    cache.remove_old()
    assert (old.exists(), new.exists(), mine.exists()) == (False, True, True)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--cache .*/file/cache: cannot be written"):
        StepCache(tmp_path / "file" / "cache")


def test_the_user_s_cache_is_where_the_desktop_standard_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "tpu2gpu" / "steps"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache() == tmp_path / "home" / ".cache" / "tpu2gpu" / "steps"


def test_a_source_is_told_by_the_content_of_its_files(tmp_path: Path) -> None:
    for name in ("model.ckpt-1.index", "model.ckpt-1.meta", "model.ckpt-1.data-00000-of-00001", "other"):
        (tmp_path / name).write_text(name)
    forms = [tmp_path, tmp_path / "model.ckpt-1", tmp_path / "model.ckpt-1.meta"]
    before = [digest_of_source(form) for form in forms]
    (tmp_path / "model.ckpt-1.data-00000-of-00001").write_text("other weights")
    assert all(digest_of_source(form) != digest for form, digest in zip(forms, before, strict=True))
    assert digest_of_source(place("memory://bucket/model")) is None


def test_examples_are_told_by_their_content_and_their_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    before = digest_of_files([first, second])
    assert digest_of_files([second, first]) != before
    first.write_text("3")
    assert digest_of_files([first, second]) != before


def test_a_file_that_an_option_names_counts_by_its_content(tmp_path: Path) -> None:
    graph = tmp_path / "graph.pb"
    graph.write_text("1")
    options = ImportOptions(graph=str(graph), tag="serve")
    before = digests_of_named(options)
    assert list(before) == ["graph"]
    graph.write_text("2")
    assert digests_of_named(options) != before
    assert digests_of_named(ImportOptions(graph="package.module:build")) == {}
    assert json.dumps(before)


def test_the_code_that_options_name_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    modules = {
        "own_pass": ImportOptions(extra_pass=("own_pass:Mine",)),
        "own_layers": ImportOptions(custom_objects=("own_layers",)),
    }
    for name, options in modules.items():
        path = tmp_path / f"{name}.py"
        path.write_text("x = 1")
        before = digest_of_code("json", options)
        path.write_text("x = 2")
        assert digest_of_code("json", options) != before
    assert digest_of_code("json", ImportOptions()) == digest_of_code("json", ImportOptions(tag="serve"))
