"""A blessed model becomes the version that a server polls; an earlier one can come back; the ledger tells it all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from importlib import metadata
from pathlib import Path

import attrs
import pytest

from tests.models.serving_folders import serving_folder, version_folder
from tpu2gpu.errors import ManifestError, PromotionRefusedError, SourceError, UsageError
from tpu2gpu.hardware.host import stable_hardware
from tpu2gpu.model_pusher.options import PushOptions
from tpu2gpu.storage.promotion import home
from tpu2gpu.storage.promotion.home import find_home
from tpu2gpu.storage.promotion.ledger import LEDGER, RECORD, read_ledger
from tpu2gpu.storage.promotion.promoting import (
    PromotionResult,
    find_incumbent,
    find_promotion,
    list_promoted,
    promote_model,
    roll_back,
)
from tpu2gpu.storage.promotion.verdicts import EvaluationVerdict, read_verdict
from tpu2gpu.storage.publishing import publish, publish_step, read_manifest, verify_model


def blessed(source: Path) -> EvaluationVerdict:
    return EvaluationVerdict(
        infra_blessed=True, model_blessed=True, digest=read_manifest(source)["digest"], level="onnx_cpu", hardware="cpu"
    )


def promote(
    folder: Path, value: float, *, split: bool = False, keep: int = 5, grace_s: float = 0, run: str = ""
) -> PromotionResult:
    source = folder.parent / f"converted-{value}-{split}"
    if not source.exists():
        serving_folder(source, value, split=split)
    return promote_model(source, folder, blessed(source), keep=keep, grace_s=grace_s, run_name=run)


@pytest.fixture(autouse=True)
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each promotion waited for servers; no server looks here."""
    seconds: list[float] = []
    monkeypatch.setattr(home.time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "promoted"


def served_version(folder: Path) -> int | None:
    return find_home(folder).served()


def snapshot(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".promotion.lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_version_lies_where_triton_polls_it_and_the_configuration_names_it_alone(folder: Path) -> None:
    result = promote(folder, 1)
    assert result.folder == folder / "adder" / "1"
    assert "version_policy {\n  specific {\n    versions: 1\n  }\n}" in (folder / "adder" / "config.pbtxt").read_text()
    assert (result.folder / "model.py").is_file()
    assert verify_model(result.folder)["promoted_digest"] == result.promotion.digest
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["adder"]  # a server takes each for a model


def test_a_versions_manifest_tells_how_it_was_made_and_proved_and_a_rollbacks_too(folder: Path) -> None:
    source = folder.parent / "made"
    reference = {"path": "frozen", "digest": "f" * 64}
    with publish_step("convert", reference, source, PushOptions(), force=False, run_name="night") as staging:
        shutil.copytree(serving_folder(folder.parent / "model", 1), staging.folder, dirs_exist_ok=True)
        (staging.folder / "manifest.json").unlink()
        staging.about["verified_level"] = "onnx_cpu"
    promote_model(source, folder, blessed(source))
    promote(folder, 2)
    roll_back(folder)
    for version in ("1", "3"):
        manifest = read_manifest(folder / "adder" / version)
        assert manifest["source"] == reference
        assert manifest["options"]["keep"] == 5
        assert manifest["versions"]["tensorflow"] == metadata.version("tensorflow")
        assert manifest["hardware"] == stable_hardware()
        assert manifest["verified_level"] == manifest["verdict"]["level"] == "onnx_cpu"
        assert manifest["promoted_digest"] == manifest["verdict"]["digest"]
        assert (
            f"tensorflow {metadata.version('tensorflow')}" in (folder / "adder" / version / "MODEL_CARD.md").read_text()
        )


def test_the_same_content_again_changes_nothing(folder: Path) -> None:
    promote(folder, 1)
    before = snapshot(folder)
    assert not promote(folder, 1).changed
    assert snapshot(folder) == before


def test_versions_grow_whatever_was_removed(folder: Path) -> None:
    versions = [promote(folder, value, keep=2).promotion.version for value in range(5)]
    assert versions == [1, 2, 3, 4, 5]
    assert sorted(path.name for path in (folder / "adder").iterdir() if path.is_dir()) == ["4", "5"]
    for version in ("4", "5"):
        (folder / "adder" / version).rename(folder.parent / f"lost-{version}")
    assert promote(folder, 9).promotion.version == 6


def test_the_incumbent_stays_and_so_do_versions_that_a_server_may_still_serve(folder: Path) -> None:
    promote(folder, 1, split=True)
    assert promote(folder, 2, split=True, keep=1, grace_s=60).removed == ()
    assert (folder / "adder_core_v1").is_dir()
    assert promote(folder, 3, split=True, keep=1).removed == (1, 2)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [
        "adder",
        "adder_core_v3",
        "adder_post_v3",
    ]


def test_the_parts_of_a_split_model_have_names_of_their_version(folder: Path) -> None:
    for value in (1, 2, 3):
        promote(folder, value, split=True)
    models = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert models == ["adder", "adder_core_v3", "adder_post_v3"]
    assert 'model_name: "adder_core_v3"' in (folder / "adder" / "config.pbtxt").read_text()
    back = roll_back(folder, to=1)
    assert back.promotion.models == ("adder_core_v4", "adder_post_v4")
    assert (folder / "adder_core_v4" / "4" / "model.py").read_text() == (
        folder / "adder" / "1" / "model_repository" / "adder_core_v1" / "1" / "model.py"
    ).read_text()


@pytest.mark.parametrize("layout", ["tf_serving", "plain"])
def test_the_largest_number_is_served_in_folders_without_a_configuration(folder: Path, layout: str) -> None:
    for content in ("a", "b"):
        source = version_folder(folder.parent / f"{layout}-{content}", layout, content)
        promote_model(source, folder, blessed(source))
    assert (folder / "adder" / "2" / "saved_model.pb").read_text() == "b"
    roll_back(folder)
    assert (folder / "adder" / "3" / "saved_model.pb").read_text() == "a"
    assert served_version(folder) == 3


def test_a_server_that_listed_the_folder_before_the_parts_came_sees_no_switch_to_them(
    folder: Path, waited: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home.time, "sleep", lambda seconds: waited.append((seconds, served_version(folder))))
    promote(folder, 1)
    assert waited == []  # a whole model's switch names nothing that could be missing
    promote(folder, 2, split=True)
    assert waited == [(2.0, 1)]
    assert served_version(folder) == 2


def test_a_rollback_is_a_version_of_its_own_with_its_reason(folder: Path) -> None:
    promote(folder, 1)
    promote(folder, 2)
    result = roll_back(folder, reason="it drifts")
    line = read_ledger(folder)[-1]
    assert (line.version, line.action, line.restores, line.replaces, line.reason) == (3, "rollback", 1, 2, "it drifts")
    assert (result.folder / "model.py").read_bytes() == (folder / "adder" / "1" / "model.py").read_bytes()
    assert verify_model(result.folder)
    assert "version 3" in (result.folder / "MODEL_CARD.md").read_text()


def test_what_a_server_compiled_beside_a_model_hinders_no_rollback(folder: Path) -> None:
    promote(folder, 1)
    promote(folder, 2)
    cache = folder / "adder" / "1" / "__pycache__"
    cache.mkdir()
    (cache / "model.cpython-310.pyc").write_bytes(b"compiled")
    result = roll_back(folder)
    assert not (result.folder / "__pycache__").exists()
    assert verify_model(folder / "adder" / "1")


def test_what_was_promoted_is_listed_with_the_incumbent(folder: Path) -> None:
    for value in range(4):
        promote(folder, value, keep=2, run=f"night-{value}")
    rows = list_promoted(folder)
    assert [(row["version"], row["kept"], row["incumbent"]) for row in rows] == [
        (1, False, False),
        (2, False, False),
        (3, True, False),
        (4, True, True),
    ]
    assert find_incumbent(folder) == folder / "adder" / "4"
    promotion = find_promotion(folder, "night-2")
    assert promotion is not None
    assert promotion.version == 3
    assert find_promotion(folder, "night-9") is None
    assert find_incumbent(folder.parent / "none") is None


def test_what_an_evaluation_wrote_is_read(tmp_path: Path) -> None:
    verdict = {
        "infra_blessed": True, "model_blessed": False, "candidate_digest": "d", "verified_level": "onnx_cpu",
        "hardware_fingerprint": "h", "reference_digest": "b",
    }  # fmt: skip
    (tmp_path / "verdict.json").write_text(json.dumps(verdict))
    assert read_verdict(tmp_path) == EvaluationVerdict(
        infra_blessed=True, model_blessed=False, digest="d", level="onnx_cpu", hardware="h", reference_digest="b"
    )
    (tmp_path / "verdict.json").write_text("[]")
    with pytest.raises(ManifestError, match="not a verdict"):
        read_verdict(tmp_path)
    with pytest.raises(SourceError, match=r"no verdict\.json"):
        read_verdict(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"digest": "0" * 64}, "the verdict is on sha256:000000000000"),
        ({"model_blessed": False}, "the outputs were refused"),
        ({"infra_blessed": False}, "latency or size was refused"),
        ({"level": "saved_model"}, "the verdict was reached on level saved_model, onnx_cpu is required"),
    ],
)
def test_a_verdict_on_something_else_or_not_good_enough_promotes_nothing(
    folder: Path, change: dict[str, object], reason: str
) -> None:
    source = serving_folder(folder.parent / "converted", 1)
    with pytest.raises(PromotionRefusedError, match=reason):
        promote_model(source, folder, attrs.evolve(blessed(source), **change), require_level="onnx_cpu")
    assert not folder.exists()


def test_a_changed_model_is_not_promoted(folder: Path) -> None:
    source = serving_folder(folder.parent / "converted", 1)
    verdict = blessed(source)
    (source / "plan.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"plan\.json"):
        promote_model(source, folder, verdict)
    assert not folder.exists()


def test_another_layout_is_refused_and_nothing_changes(folder: Path) -> None:
    promote(folder, 1)
    before = snapshot(folder)
    source = version_folder(folder.parent / "served", "tf_serving")
    with pytest.raises(UsageError, match="layout triton"):
        promote_model(source, folder, blessed(source))
    assert snapshot(folder) == before


def test_a_folder_of_the_stock_pusher_is_refused_and_its_newest_model_is_the_incumbent(folder: Path) -> None:
    stock = serving_folder(folder / "1700000000", 1)
    with pytest.raises(UsageError, match="stock Pusher"):
        promote(folder, 2)
    assert find_incumbent(folder) == stock


def test_an_unknown_version_and_what_is_served_already_are_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match="no model was promoted"):
        roll_back(folder)
    promote(folder, 1)
    with pytest.raises(SourceError, match="no version before 1"):
        roll_back(folder)
    promote(folder, 2)
    with pytest.raises(SourceError, match="no version 9; there are 1, 2"):
        roll_back(folder, to=9)
    with pytest.raises(PromotionRefusedError, match="is what is served already"):
        roll_back(folder, to=2)
    assert [line.version for line in read_ledger(folder)] == [1, 2]


def test_a_version_that_was_changed_does_not_come_back(folder: Path) -> None:
    promote(folder, 1)
    promote(folder, 2)
    (folder / "adder" / "1" / "model.py").write_text("import os")
    with pytest.raises(ManifestError, match=r"model\.py"):
        roll_back(folder)
    assert served_version(folder) == 2


def test_a_second_pusher_says_that_another_is_at_work(folder: Path) -> None:
    promote(folder, 1)
    holder = os.open(folder / ".promotion.lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(PromotionRefusedError, match="another promotion is under way"):
        promote(folder, 2)
    os.close(holder)
    assert promote(folder, 2).changed


def test_several_models_share_a_folder_and_must_be_named(folder: Path) -> None:
    promote(folder, 1)
    source = serving_folder(folder.parent / "other", 1, name="other")
    promote_model(source, folder, blessed(source))
    with pytest.raises(UsageError, match="several models"):
        roll_back(folder)
    assert find_incumbent(folder, "other") == folder / "other" / "1"
    with pytest.raises(UsageError, match="was converted as 'other'"):
        promote_model(source, folder, blessed(source), name="adder")


def test_what_a_killed_process_left_is_put_in_order_by_the_next(folder: Path) -> None:
    promote(folder, 1, split=True)
    promote(folder, 2, split=True)
    home = folder / "adder"
    # Killed before the switch: a version and its parts that no configuration names, a staging folder.
    promote(folder, 3, split=True)
    config = (home / "2" / "config.pbtxt").read_bytes()
    (home / "config.pbtxt").write_bytes(config)
    (home / ".staging-x").mkdir()
    # Killed before the ledger was written, and in the midst of a line.
    ledger = folder / "promotions.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text(lines[0] + lines[1][:20])
    assert [row["version"] for row in list_promoted(folder)] == [1, 2]
    result = promote(folder, 4, split=True)
    assert result.promotion.version == 4  # 3 was used
    assert [line.version for line in read_ledger(folder)] == [1, 2, 4]
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [
        "adder", "adder_core_v4", "adder_post_v4",
    ]  # fmt: skip
    assert sorted(path.name for path in home.iterdir() if path.is_dir()) == ["1", "2", "4"]


def test_parts_that_a_server_may_be_loading_outlive_a_killed_promotion_by_the_grace(folder: Path) -> None:
    promote(folder, 1, split=True)
    config = (folder / "adder" / "config.pbtxt").read_bytes()
    promote(folder, 2, split=True)
    (folder / "adder" / "config.pbtxt").write_bytes(config)  # killed before the switch
    assert promote(folder, 3, split=True, grace_s=3600).promotion.version == 3
    assert (folder / "adder_core_v2").is_dir()
    assert [row["version"] for row in list_promoted(folder)] == [1, 2, 3]
    assert not (folder / "adder" / "2").exists()
    assert promote(folder, 4, split=True).promotion.version == 4
    assert not (folder / "adder_core_v2").exists()


@pytest.mark.parametrize("version", [1, 2])
def test_the_ledger_makes_up_for_a_damaged_record(folder: Path, version: int) -> None:
    promote(folder, 1)
    promote(folder, 2)
    (folder / "adder" / str(version) / RECORD).write_text("{")
    found = find_home(folder)
    assert (found.served(), [record.version for record in found.versions()]) == (2, [1, 2])
    assert find_incumbent(folder) == folder / "adder" / "2"
    assert promote(folder, 3).promotion.replaces == 2
    (folder / LEDGER).unlink()
    with pytest.raises(ManifestError, match=rf"{version}/promotion\.json: not a record of a promotion"):
        found.versions()


def test_a_damaged_ledger_is_told_by_its_line(folder: Path) -> None:
    promote(folder, 1)
    (folder / "promotions.jsonl").write_text('{"version": 1}\n')
    with pytest.raises(ManifestError, match="line 1 is damaged"):
        list_promoted(folder)


@pytest.mark.parametrize("plan", ["[]", "{", '{"inputs": 7}', '{"dtype": "float32"}', '{"inputs": [{}]}', "[" * 9999])
def test_a_plan_that_is_none_promotes_nothing(plan: str, folder: Path, tmp_path: Path) -> None:
    with publish(tmp_path / "model", about={"step": "convert", "options": {"name": "adder"}}) as staging:
        (staging.folder / "saved_model.pb").write_text("a model")
        (staging.folder / "plan.json").write_text(plan)
    with pytest.raises(ManifestError, match=r"plan\.json: not the plan of a serving folder"):
        promote_model(tmp_path / "model", folder, blessed(tmp_path / "model"))
    assert list_promoted(folder) == []
