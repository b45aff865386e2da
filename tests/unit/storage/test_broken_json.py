"""Manifests, verdicts and records that are broken end in an error of ours that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models.serving_folders import version_folder
from tpu2gpu import read_verdict, verify_model
from tpu2gpu.errors import ManifestError
from tpu2gpu.storage.promotion.ledger import LEDGER, RECORD, Promotion, read_ledger, read_record
from tpu2gpu.storage.promotion.promoting import model_name
from tpu2gpu.storage.publishing import write_json

DEEP = "[" * 100_000

MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no mapping": lambda it: [it],
    "files that are none": lambda it: it | {"files": 7},
    "a file that is none": lambda it: it | {"files": ["a"]},
    "a size that is text": lambda it: it | {"files": [{"path": "a", "size_bytes": "1", "sha256": ""}]},
    "a path that is a list": lambda it: it | {"files": [{"path": [], "size_bytes": 1, "sha256": ""}]},
    "a digest that is a number": lambda it: it | {"digest": 7},
    "options that are text": lambda it: it | {"options": "name"},
    "a source that is a list": lambda it: it | {"source": []},
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_broken_manifest_is_named(name: str, tmp_path: Path) -> None:
    folder = version_folder(tmp_path / "model", "plain")
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", MANIFESTS[name](manifest))
    with pytest.raises(ManifestError, match=r"manifest\.json: not a manifest"):
        verify_model(folder)


@pytest.mark.parametrize("key", ["options", "source", "versions", "step", "run"])
def test_an_entry_of_a_manifest_that_is_null_is_none(key: str, tmp_path: Path) -> None:
    folder = version_folder(tmp_path / "model", "plain")
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", manifest | {key: None})
    assert key not in verify_model(folder)
    assert model_name(folder) == ("model" if key == "options" else "adder")


def test_a_manifest_nested_too_deep_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(DEEP)
    with pytest.raises(ManifestError, match=r"manifest\.json: not a manifest \(nested deeper"):
        verify_model(tmp_path)


SOUND = {
    "infra_blessed": True,
    "model_blessed": True,
    "candidate_digest": "d",
    "verified_level": "onnx_cpu",
    "hardware_fingerprint": "",
    "reference_digest": "",
}


@pytest.mark.parametrize(
    "change", [{"verified_level": "best"}, {"verified_level": []}, {"model_blessed": "false"}, {"reasons": 7}]
)
def test_a_broken_verdict_blesses_nothing(change: dict[str, Any], tmp_path: Path) -> None:
    write_json(tmp_path / "verdict.json", SOUND)
    assert read_verdict(tmp_path).model_blessed
    write_json(tmp_path / "verdict.json", SOUND | change)
    with pytest.raises(ManifestError, match=r"verdict\.json: not a verdict"):
        read_verdict(tmp_path)


RECORDED = Promotion(
    model="m",
    version=1,
    action="promote",
    digest="d",
    run="",
    at="2026-01-01T00:00:00+00:00",
    replaces=None,
    layout="plain",
    reason="",
)


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1"},
        {"version": -1},
        {"at": "yesterday"},
        {"at": "2026-01-01T00:00:00"},
        {"models": ["../../home"]},
        {"model": ".."},
        {"verdict": []},
        {"colour": "red"},
    ],
)
def test_a_broken_record_names_nothing_that_could_be_removed(change: dict[str, Any], tmp_path: Path) -> None:
    record = json.loads(RECORDED.to_line())
    write_json(tmp_path / RECORD, record)
    assert read_record(tmp_path) == RECORDED
    write_json(tmp_path / RECORD, record | change)
    with pytest.raises(ManifestError, match=r"not a record of a promotion"):
        read_record(tmp_path)


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"[]\n", DEEP.encode() + b"\n"])
def test_a_broken_line_of_the_ledger_is_named(line: bytes, tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_bytes(line)
    with pytest.raises(ManifestError, match=LEDGER):
        read_ledger(tmp_path)
