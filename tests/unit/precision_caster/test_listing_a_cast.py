"""`cast --list SOURCE` tells what a cast would do with that model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models import zoo
from tpu2gpu.cli.main import main
from tpu2gpu.precision_caster.casting import cast_model, list_cast
from tpu2gpu.precision_caster.options import CastOptions

Built = Callable[..., Path]


def test_what_is_listed_is_what_a_cast_does(built: Built, tmp_path: Path) -> None:
    source, options = built(zoo.transformer), CastOptions(measure=False, keep_op=("MatMul",))
    listed = list_cast(source, options)
    done = cast_model(source, tmp_path / "half", options).report
    assert listed["kept"] == done["kept"]
    assert listed["inserted_casts"] == done["inserted_casts"]
    assert len(listed["cast"]) == done["changed_nodes"]


def test_the_command_lists_nodes_and_writes_nothing(
    built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = str(built(zoo.transformer))
    assert main(["cast", "--list", source, "--keep", "^", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["cast"] == []
    assert main(["cast", "--list", source]) == 0
    assert "nodes in float16: " in capfd.readouterr().out.splitlines()[0]
    assert list(tmp_path.iterdir()) == []
