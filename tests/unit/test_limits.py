"""Limits on what is taken from foreign files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpu2gpu.cli.main import main
from tpu2gpu.errors import UsageError
from tpu2gpu.limits import changed_limits, limits
from tpu2gpu.plain_json import check_tree, parse_json
from tpu2gpu.storage.publishing import make_manifest, write_json


def test_limits_hold_in_a_block() -> None:
    before = limits()
    with changed_limits(["nodes=7", "nesting=3"]), changed_limits(["nodes=8"]):
        assert (limits().nodes, limits().nesting) == (8, 3)
    assert limits() == before


@pytest.mark.parametrize("text", ["nodes", "nodes=", "nodes=-1", "nodes=0", "nodes=x", "size=3"])
def test_a_limit_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"--limit {text}: must be NAME=NUMBER"), changed_limits([text]):
        pass


@pytest.mark.parametrize("text", ["[" * 100_000, '{"x":' * 300 + "1" + "}" * 300, '["]", ' * 300])
def test_json_nested_too_deep_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nested deeper than 200; --limit json_depth"):
        parse_json(text)


def test_brackets_in_text_are_no_nesting() -> None:
    value = ["[" * 1000, {'"': "\\" * 7 + '"[{'}]
    assert parse_json(json.dumps(value)) == value


def test_a_tree_that_holds_itself_is_refused() -> None:
    tree: list[object] = [1]
    tree.append({"x": tree})
    with pytest.raises(ValueError, match="holds itself"):
        check_tree(tree)


def test_a_billion_laughs_are_refused() -> None:
    tree: list[object] = ["ha"]
    for _ in range(9):
        tree = [tree] * 10
    with pytest.raises(ValueError, match="named again and again"):
        check_tree(tree)


def test_the_flag_reaches_what_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "manifest.json", make_manifest(tmp_path, {"x": [[[1]]]}))
    assert main(["verify", str(tmp_path), "--limit", "json_depth=3"]) == 3
    assert "nested deeper than 3" in capsys.readouterr().err
    assert main(["verify", str(tmp_path), "--limit", "depth=3"]) == 2
    assert main(["verify", str(tmp_path)]) == 0
