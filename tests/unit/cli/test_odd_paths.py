"""Paths that are no text, too long or very deep: they work, or are told as what they are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tpu2gpu.tensorbundle.writer import BundleWriter

Run = Callable[..., tuple[int, str, str]]


def test_names_that_are_no_text_are_printed_and_are_sound_json(run: Run, place: Path) -> None:
    bare = Path(os.fsdecode(b"no\xfftext"))
    for words in (["inspect", bare], ["verify", bare, "--json"], ["clean", bare]):
        code, out, err = run(*words)
        assert (code, "text: " in err) == (3, True)
        if "--json" in words:
            assert str(bare) in json.loads(out)["message"]
    bare.mkdir()
    (bare / ".x.partial-1").mkdir()
    code, out, _ = run("clean", bare, "--json")
    assert (code, str(bare) in out.encode().decode("unicode_escape", errors="replace")) == (0, True)
    assert json.loads(out)


def test_names_that_would_move_a_cursor_are_spelled(run: Run, tmp_path: Path) -> None:
    """Names of tensors come from strangers: some rename a terminal, clear it, or turn its text around."""
    odd, spelled = "a\x1b]0;mine\x07\x9b2J\u202eb", r"a\u001b]0;mine\u0007\u009b2J\u202eb"
    with BundleWriter(tmp_path / "model.ckpt") as writer:
        writer.add_array(odd, np.zeros(1, np.float32))
    for name, *flags in (["model.ckpt"], ["model.ckpt", "--json"], [odd]):
        _, out, err = run("inspect", tmp_path / name, *flags)
        assert spelled in out + err
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out + err)


@pytest.mark.parametrize("words", [["inspect", "x" * 300], ["verify", "x" * 300], ["freeze", "model", "x" * 300]])
def test_a_name_that_is_too_long_is_told_as_one(words: list[str], run: Run, place: Path) -> None:
    code, _, err = run(*words)
    assert (code, "File name too long; check the path" in err) == (3, True)


def test_a_target_may_lie_deep(tmp_path: Path, deep_folder: Path, run: Run) -> None:
    source = tmp_path / "model.ckpt"
    with BundleWriter(source) as writer:
        writer.add_array("weights", np.ones(3, np.float32))
    deep = deep_folder.joinpath(*["d"] * 1200)
    assert run("cast", source, deep / "out", "--to", "float16")[0] == 0
    assert (deep / "out" / "manifest.json").is_file()
    code, _, err = run("cast", source, deep.joinpath(*["d"] * 700, "out"), "--to", "float16")
    assert (code, "File name too long; check the path" in err) == (3, True)
    code, _, err = run("cast", source, tmp_path / ("n" * 250), "--to", "float16")
    assert (code, "File name too long; check the path" in err) == (3, True)
    code, _, err = run("clean", tmp_path)
    assert (code, "more than 200 folders lie in each other there" in err) == (3, True)
