"""Promotion into an object store: a version is there once its last file is, and one pusher alone holds the folder."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.models.object_store import BUCKET, ObjectStoreServer, object_store
from tests.models.serving_folders import serving_folder, version_folder
from tpu2gpu.cli.main import main
from tpu2gpu.errors import EnvironmentLacksError, ManifestError, PromotionRefusedError, SourceError, UsageError
from tpu2gpu.storage.paths import RemotePath
from tpu2gpu.storage.promotion.home import find_home
from tpu2gpu.storage.promotion.lease import Lease
from tpu2gpu.storage.promotion.ledger import read_ledger
from tpu2gpu.storage.promotion.promoting import (
    PromotionResult,
    fetched_incumbent,
    find_incumbent,
    find_promotion,
    list_promoted,
    promote_model,
    roll_back,
)
from tpu2gpu.storage.promotion.verdicts import EvaluationVerdict
from tpu2gpu.storage.publishing import read_manifest, verify_model


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    with object_store(tmp_path_factory.mktemp("s3") / "server.log") as server:
        yield server


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("converted")
    return {value: serving_folder(folder / str(value), value, split=True) for value in (1, 2, 3)}


@pytest.fixture
def folder(store: ObjectStoreServer, request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/{request.node.name.replace('[', '-').strip(']')}"


def promote(folder: str, source: Path, *, keep: int = 5, run: str = "") -> PromotionResult:
    digest = read_manifest(source)["digest"]
    verdict = EvaluationVerdict(infra_blessed=True, model_blessed=True, digest=digest, level="onnx_cpu")
    return promote_model(source, folder, verdict, keep=keep, grace_s=0, settle_s=0, run_name=run)


def contents(store: ObjectStoreServer, folder: str) -> dict[str, bytes]:
    """All that lies there but for the lease."""
    found = store.files.find(folder)
    return {path.partition("/")[2]: store.files.cat_file(path) for path in found if ".promotion.lock." not in path}


def names(store: ObjectStoreServer, folder: str) -> list[str]:
    """The folders in a folder."""
    found = store.files.ls(folder, detail=True)
    return sorted(entry["name"].rpartition("/")[2] for entry in found if entry["type"] == "directory")


def models(store: ObjectStoreServer, folder: str) -> list[str]:
    """The folders on top, each of which Triton takes for a model."""
    return names(store, folder)


def test_versions_come_go_and_come_back(store: ObjectStoreServer, folder: str, sources: dict[int, Path]) -> None:
    first = promote(folder, sources[1], run="night-1")
    assert str(first.folder) == f"{folder}/adder/1"
    assert verify_model(first.folder)["promoted_digest"] == first.promotion.digest
    assert not promote(folder, sources[1]).changed
    promote(folder, sources[2])
    assert promote(folder, sources[3], keep=2).removed == (1,)
    back = roll_back(folder, to=2, reason="it drifts", grace_s=0, settle_s=0)
    assert back.promotion.models == ("adder_core_v4", "adder_post_v4")
    assert models(store, folder) == ["adder", "adder_core_v4", "adder_post_v4"]
    config = contents(store, folder)[f"{folder.rpartition('/')[2]}/adder/config.pbtxt"].decode()
    assert "versions: 4" in config
    assert 'model_name: "adder_core_v4"' in config
    rows = list_promoted(folder)
    assert [(row["version"], row["action"], row["kept"], row["incumbent"]) for row in rows] == [
        (1, "promote", False, False),
        (2, "promote", True, False),
        (3, "promote", True, False),
        (4, "rollback", True, True),
    ]
    assert rows[-1]["reason"] == "it drifts"
    promotion = find_promotion(folder, "night-1")
    assert promotion is not None
    assert promotion.version == 1
    assert str(find_incumbent(folder)) == f"{folder}/adder/4"
    with fetched_incumbent(folder) as incumbent:
        assert incumbent is not None
        assert verify_model(incumbent)["digest"] == read_manifest(f"{folder}/adder/4")["digest"]
    with fetched_incumbent(f"{folder}-none") as none:
        assert none is None


@pytest.mark.parametrize(("layout", "last"), [("tf_serving", "saved_model.pb"), ("plain", "manifest.json")])
def test_the_file_that_makes_a_version_whole_comes_last(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, last: str
) -> None:
    written: list[str] = []
    plain = RemotePath.copy_from
    monkeypatch.setattr(
        RemotePath, "copy_from", lambda path, source: (written.append(str(path)), plain(path, source))[1]
    )
    promote(folder, version_folder(tmp_path / "served", layout))
    assert written[0] == f"{folder}/adder/1/promotion.json"
    assert written[-1] == f"{folder}/adder/1/{last}"
    assert find_home(folder).served() == 1


def test_a_part_has_its_configuration_last(
    folder: str, sources: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    for name in ("copy_from", "write_bytes"):
        plain = getattr(RemotePath, name)

        def told(path: RemotePath, given: Any, plain: Any = plain) -> Any:
            written.append(str(path).removeprefix(folder))
            return plain(path, given)

        monkeypatch.setattr(RemotePath, name, told)
    promote(folder, sources[1])
    assert [path for path in written if path.startswith("/adder_") or path.endswith("adder/config.pbtxt")] == [
        "/adder_core_v1/1/model.py",
        "/adder_core_v1/config.pbtxt",
        "/adder_post_v1/1/model.py",
        "/adder_post_v1/config.pbtxt",
        "/adder/config.pbtxt",  # the switch: all that it names is there
    ]
    assert written.index("/adder/1/manifest.json") < written.index("/adder_core_v1/1/model.py")


class Killed(BaseException):
    """Nothing that this process wants to write reaches the store any more."""


def killed_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [writes]

    def stop_after(write: Callable[..., None]) -> Callable[..., None]:
        def count(*given: Any) -> None:
            if not left[0]:
                raise Killed
            left[0] -= 1
            write(*given)

        return count

    for name in ("write_bytes", "create", "copy_from", "unlink"):
        monkeypatch.setattr(RemotePath, name, stop_after(getattr(RemotePath, name)))


def expire_lease(store: ObjectStoreServer, folder: str) -> None:
    """Let the time pass that a killed process holds the folder."""
    newest = max(store.files.glob(f"{folder}/.promotion.lock.*"))
    told = json.loads(store.files.cat_file(newest))
    store.files.pipe_file(newest, json.dumps({**told, "until": "2020-01-01T00:00:00+00:00"}).encode())


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param([6, 20], id="some"),  # in the midst of the version, of its parts
        pytest.param(range(36), id="all", marks=pytest.mark.slow),
    ],
)
def test_a_pusher_that_is_killed_before_any_write_leaves_nothing_half(
    store: ObjectStoreServer,
    folder: str,
    sources: dict[int, Path],
    monkeypatch: pytest.MonkeyPatch,
    moments: Iterable[int],
) -> None:
    promote(folder, sources[1])
    promote(folder, sources[2])
    ended = []
    for turn, writes in enumerate(moments):
        before = find_home(folder).served()
        with monkeypatch.context() as short, suppress(Killed):
            killed_after(writes, short)
            if turn % 2:
                roll_back(folder, grace_s=0, settle_s=0, keep=3)
            else:
                promote(folder, sources[1 + turn % 3], keep=3)
            ended.append(writes)
        expire_lease(store, folder)
        served = find_home(folder).served()
        assert before is not None
        assert served in (before, *range(before + 1, before + 3))
        verify_model(f"{folder}/adder/{served}")
        assert f"versions: {served}\n" in store.files.cat_file(f"{folder}/adder/config.pbtxt").decode()
        assert {f"adder_core_v{served}", f"adder_post_v{served}"} <= set(models(store, folder))
    assert 6 not in ended
    assert promote(folder, sources[3]).changed or promote(folder, sources[2]).changed
    kept = [record.version for record in find_home(folder).versions()]
    assert [line.version for line in read_ledger(RemotePath(folder))][-len(kept) :] == kept
    assert sorted(int(name) for name in names(store, f"{folder}/adder") if name.isdecimal()) == kept
    assert models(store, folder) == ["adder", *(f"adder_{part}_v{kept[-1]}" for part in ("core", "post"))]


def test_a_second_pusher_is_told_who_holds_the_folder_and_until_when(folder: str, sources: dict[int, Path]) -> None:
    with Lease(RemotePath(folder)).held():
        with pytest.raises(PromotionRefusedError, match=rf"another promotion is under way \(process {os.getpid()} on "):
            promote(folder, sources[1])
        assert list_promoted(folder) == []
    assert promote(folder, sources[1]).changed


def test_of_two_pushers_in_the_same_moment_the_store_takes_one(
    folder: str, sources: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(folder, sources[1])
    looked = Lease._newest
    first = Lease(RemotePath(folder))

    def look_and_be_overtaken(self: Lease) -> int:
        newest = looked(self)
        if self is not first:
            monkeypatch.setattr(Lease, "_newest", looked)
            first._take()
        return newest

    monkeypatch.setattr(Lease, "_newest", look_and_be_overtaken)
    with pytest.raises(PromotionRefusedError, match="by a process that was faster"):
        promote(folder, sources[2])
    first.check()
    assert [line.version for line in read_ledger(RemotePath(folder))] == [1]


def test_a_pusher_that_lost_its_lease_switches_nothing(
    store: ObjectStoreServer, folder: str, sources: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(folder, sources[1])
    plain = RemotePath.copy_from

    def overslept(path: RemotePath, source: Any) -> None:
        plain(path, source)
        if path.name == "plan.json":  # in the midst of the upload; meanwhile another one has taken over
            newest = max(store.files.glob(f"{folder}/.promotion.lock.*"))
            number = int(newest.rpartition(".")[2])
            store.files.pipe_file(newest.replace(f"{number:08d}", f"{number + 1:08d}"), store.files.cat_file(newest))

    monkeypatch.setattr(RemotePath, "copy_from", overslept)
    with pytest.raises(PromotionRefusedError, match="the lease on it ended"):
        promote(folder, sources[2])
    assert find_home(folder).served() == 1
    assert [line.version for line in read_ledger(RemotePath(folder))] == [1]


def test_a_lease_is_renewed_while_its_holder_lives(folder: str) -> None:
    with Lease(RemotePath(folder), seconds=1.0).held() as held:
        time.sleep(1.5)
        held.check()
        with pytest.raises(PromotionRefusedError, match="another promotion is under way"):
            Lease(RemotePath(folder))._take()


def test_a_store_without_conditional_writes_is_told(
    folder: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(RemotePath, "create", RemotePath.write_bytes)
    with caplog.at_level(logging.WARNING, "tpu2gpu"), Lease(RemotePath(folder)).held():
        assert "this store has no conditional writes" in caplog.text


def test_what_cannot_be_promoted_or_brought_back_changes_nothing(
    store: ObjectStoreServer, folder: str, sources: dict[int, Path]
) -> None:
    promote(folder, sources[1])
    promote(folder, sources[2])
    store.files.pipe_file(f"{folder}/adder/1/plan.json", b"{}")
    before = contents(store, folder)
    with pytest.raises(ManifestError, match=r"plan\.json"):
        roll_back(folder)
    with pytest.raises(SourceError, match="no version 9; there are 1, 2"):
        roll_back(folder, to=9)
    assert contents(store, folder) == before
    store.files.pipe_file(f"{folder}-foreign/adder/7/saved_model.pb", b"another's")
    with pytest.raises(UsageError, match="holds 7, which no promotion brought there"):
        promote(f"{folder}-foreign", sources[1])
    assert list(contents(store, f"{folder}-foreign").values()) == [b"another's"]
    with pytest.raises(EnvironmentLacksError, match="cannot be written"):
        promote("s3://no-such-bucket/promoted", sources[1])


def test_the_commands_take_the_address(
    folder: str, sources: dict[int, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    verdict = {
        "infra_blessed": True, "model_blessed": True, "candidate_digest": read_manifest(sources[1])["digest"],
        "reference_digest": "b", "verified_level": "onnx_cpu", "hardware_fingerprint": "h",
    }  # fmt: skip
    (tmp_path / "verdict.json").write_text(json.dumps(verdict))
    assert main(["promote", str(sources[1]), folder, "--evaluation", str(tmp_path)]) == 0
    assert f"folder: {folder}/adder/1" in capfd.readouterr().out
    assert main(["verify", f"{folder}/adder/1"]) == 0
    assert main(["promoted", folder]) == 0
    assert capfd.readouterr().out.splitlines()[-2].split()[:3] == ["*", "adder", "1"]
    assert main(["rollback", folder, "--to", "5"]) == 3
