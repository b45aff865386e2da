"""Promotion by hand: promote, look, go back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.models.serving_folders import serving_folder
from tpu2gpu.cli.main import main
from tpu2gpu.storage.publishing import read_manifest, write_json


def evaluated(source: Path, folder: Path, *, blessed: bool = True) -> Path:
    """What an evaluation leaves of its verdict."""
    folder.mkdir()
    verdict = {
        "infra_blessed": blessed,
        "model_blessed": True,
        "candidate_digest": read_manifest(source)["digest"],
        "reference_digest": "b",
        "verified_level": "onnx_cpu",
        "hardware_fingerprint": "h",
    }
    write_json(folder / "verdict.json", verdict)
    return folder


def test_a_model_is_promoted_listed_and_rolled_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "promoted"
    for value in (1, 2):
        source = serving_folder(tmp_path / f"converted-{value}", value)
        evaluation = evaluated(source, tmp_path / f"evaluation-{value}")
        assert main(["promote", str(source), str(folder), "--evaluation", str(evaluation)]) == 0
        assert f"adder version {value}: promoted" in capfd.readouterr().out
    assert main(["promote", str(source), str(folder), "--evaluation", str(evaluation)]) == 0
    assert "served already" in capfd.readouterr().out
    assert main(["rollback", str(folder), "--reason", "it drifts"]) == 0
    assert "version 3: version 1 again, in the place of 2" in capfd.readouterr().out
    assert main(["promoted", str(folder)]) == 0
    *_, last, legend = capfd.readouterr().out.splitlines()
    assert last.split()[:4] == ["*", "adder", "3", "rollback"]
    assert last.endswith("it drifts")
    assert legend == "* is served now"
    assert main(["promoted", str(folder), "--json"]) == 0
    assert [row["version"] for row in json.loads(capfd.readouterr().out)] == [1, 2, 3]


def test_what_cannot_be_promoted_ends_with_its_exit_code_and_changes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "promoted"
    source = serving_folder(tmp_path / "converted", 1)
    refused = evaluated(source, tmp_path / "refused", blessed=False)
    assert main(["promote", str(source), str(folder), "--evaluation", str(refused)]) == 1
    assert "latency or size was refused" in capfd.readouterr().err
    assert main(["promote", str(source), str(folder), "--evaluation", str(tmp_path)]) == 3
    assert main(["rollback", str(folder)]) == 3
    assert main(["promote", str(source), str(folder)]) == 2
    assert not folder.exists()
    assert main(["promoted", str(folder)]) == 0
    assert "nothing was promoted there: there is no such folder" in capfd.readouterr().out
    folder.mkdir()
    assert main(["promoted", str(folder)]) == 0
    assert capfd.readouterr().out == f"{folder}: nothing was promoted there\n"
