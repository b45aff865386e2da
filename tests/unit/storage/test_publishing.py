"""Outputs appear whole or not at all, and their manifest knows every byte."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from tpu2gpu.errors import ManifestError, OutputExistsError, RefusedError, SourceError, UsageError
from tpu2gpu.storage.full_disks import why_full
from tpu2gpu.storage.publishing import describe_source, name_of, publish, title_of, verify_model


def write(target: Path, text: str = "weights", *, force: bool = False) -> None:
    with publish(target, force=force, about={"step": "test"}) as staging:
        (staging.folder / "sub").mkdir()
        (staging.folder / "sub" / "file").write_text(text)
        staging.report["found"] = text


def test_a_folder_appears_with_report_and_manifest(tmp_path: Path) -> None:
    write(tmp_path / "out")
    manifest = verify_model(tmp_path / "out")
    assert manifest["step"] == "test"
    assert [file["path"] for file in manifest["files"]] == ["report.json", "sub/file"]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == {"found": "weights"}


def test_the_same_content_has_the_same_digest(tmp_path: Path) -> None:
    write(tmp_path / "one")
    write(tmp_path / "two")
    assert verify_model(tmp_path / "one") == verify_model(tmp_path / "two")


def test_nothing_appears_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"), publish(tmp_path / "out", about={}) as staging:
        (staging.folder / "half").touch()
        raise OSError("disk full")
    assert not list(tmp_path.iterdir())


def test_a_refusal_leaves_its_report_beside_the_absent_target(tmp_path: Path) -> None:
    with pytest.raises(RefusedError), publish(tmp_path / "out", about={}) as staging:
        staging.report["found"] = 3
        raise RefusedError("no", details=["a", "b"], hint="try less")
    report = json.loads((tmp_path / "out.report.json").read_text())
    assert report == {
        "found": 3,
        "refused": {"error": "RefusedError", "message": "no", "details": ["a", "b"], "hint": "try less"},
    }
    write(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_existing_output_is_kept_unless_forced(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(OutputExistsError, match=r"out: exists already; choose another TARGET or give --force"):
        write(tmp_path / "out", "new")
    assert (tmp_path / "out" / "sub" / "file").read_text() == "old"
    write(tmp_path / "out", "new", force=True)
    assert (tmp_path / "out" / "sub" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_forced_replacement_that_fails_keeps_the_old_output(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(OSError, match="disk full"), publish(tmp_path / "out", force=True, about={}):
        raise OSError("disk full")
    verify_model(tmp_path / "out")


def test_force_replaces_no_folder_that_is_not_an_output(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.ckpt-5.index").touch()
    with pytest.raises(OutputExistsError, match=r"run: holds no manifest\.json, so it is no output"):
        write(tmp_path / "run", force=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model.ckpt-5.index"]


def test_the_slower_of_two_runs_does_not_replace_what_the_faster_wrote(tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError), publish(tmp_path / "out", about={}):
        write(tmp_path / "out", "first")
    assert (tmp_path / "out" / "sub" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_target_may_be_a_link_to_a_folder_or_to_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    for name in ("volume", "later"):
        (tmp_path / f"to_{name}").symlink_to(tmp_path / name)
        for force in (False, True):
            write(tmp_path / f"to_{name}", force=force)
        assert (tmp_path / f"to_{name}").is_symlink()
        verify_model(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("where", ["current", "mounted"])
def test_a_folder_that_must_stay_is_filled(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"
    target.mkdir()
    if where == "current":
        monkeypatch.chdir(target)
    else:
        monkeypatch.setattr("os.path.ismount", lambda path: Path(path) == target)
    stays = target.stat().st_ino
    for text in ("old", "new"):
        write(Path() if where == "current" else target, text, force=True)
        verify_model(target)
    assert (target / "sub" / "file").read_text() == "new"
    assert target.stat().st_ino == stays
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_may_be_there_and_a_file_may_not(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="a file is there"):
        write(tmp_path / "file")


def test_a_place_that_cannot_be_written_is_told_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out"):
        with pytest.raises(UsageError, match=r"out: cannot be written \(.+\); choose another TARGET"):
            write(target)


def test_verify_lists_all_that_differs(tmp_path: Path) -> None:
    write(tmp_path / "out")
    (tmp_path / "out" / "sub" / "file").write_text("weighty")
    (tmp_path / "out" / "report.json").unlink()
    (tmp_path / "out" / "extra").touch()
    with pytest.raises(ManifestError) as caught:
        verify_model(tmp_path / "out")
    assert caught.value.details == (
        "report.json: missing",
        "extra: not in the manifest",
        "sub/file: its bytes have changed",
    )


def test_verify_names_a_missing_and_a_damaged_manifest(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no manifest\.json there"):
        verify_model(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ManifestError, match="not a manifest"):
        verify_model(tmp_path)


@pytest.mark.parametrize(
    ("step", "folder", "name", "title"),
    [
        ("freeze", "serving", "serving", "serving"),
        ("freeze", "Freezer/model/9/Format-Serving", "Freezer/model/9", "frozen"),
        ("convert", "trt-converter/0b5e9a7c-1234-4abc-8def-0123456789ab/model/Format-Serving", "trt-converter/model",
         "converted"),
        ("", "trainer/0b5e9a7c-1234-4abc-8def-0123456789ab/model/Format-Serving", "trainer/model", "trainer"),
        ("convert", "promoted/digits/7", "7", "digits version 7"),
    ],
)  # fmt: skip
def test_a_heading_tells_what_was_done_to_a_model_and_never_a_uuid(
    step: str, folder: str, name: str, title: str, tmp_path: Path
) -> None:
    path = tmp_path / folder
    path.mkdir(parents=True)
    if step:
        with publish(path, about={"step": step}):
            pass
    assert (name_of(path), title_of(path)) == (name, title)


def test_a_source_without_a_manifest_is_told_from_another_by_its_files(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ckpt-1.index").write_text(name if name == "c" else "same")
        (tmp_path / name / "ckpt-1.data").write_text("values")
    told = {name: describe_source(tmp_path / name) for name in ("a", "b", "c")}
    assert all(about["digest"] is None for about in told.values())
    prefixes = {name: describe_source(tmp_path / name / "ckpt-1")["fingerprint"] for name in ("a", "b", "c")}
    assert prefixes["a"] == prefixes["b"] != prefixes["c"]
    assert told["a"]["fingerprint"] == told["b"]["fingerprint"] != told["c"]["fingerprint"]


def test_verify_sees_what_is_no_regular_file_and_waits_for_none(tmp_path: Path) -> None:
    write(tmp_path / "out")
    (tmp_path / "file").write_text("weights")
    (tmp_path / "out" / "sub" / "file").unlink()
    (tmp_path / "out" / "sub" / "file").symlink_to(tmp_path / "file")
    (tmp_path / "out" / "folder").symlink_to("/etc")
    (tmp_path / "out" / "dangling").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "out" / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "out" / "socket"))
    with pytest.raises(ManifestError) as caught:
        verify_model(tmp_path / "out")
    assert caught.value.details == (
        "dangling: a link",
        "folder: a link",
        "pipe: a pipe",
        "socket: a socket",
        "sub/file: a link",
    )


def test_verify_sees_an_altered_manifest(tmp_path: Path) -> None:
    write(tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (tmp_path / "out" / "sub" / "file").write_text("weighty")
    for entry in manifest["files"]:
        if entry["path"] == "sub/file":
            entry["sha256"] = hashlib.sha256(b"weighty").hexdigest()
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match=r"manifest\.json: its digest is not that of the files which it lists"):
        verify_model(tmp_path / "out")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/../../secret"])
def test_an_entry_of_a_manifest_outside_the_folder_is_never_opened(name: str, tmp_path: Path) -> None:
    write(tmp_path / "out")
    os.mkfifo(tmp_path / "secret")  # whoever opens it waits for ever
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    manifest["files"].append({"path": name, "size_bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()})
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match=f"{name}: missing"):
        verify_model(tmp_path / "out")


def test_a_pipe_in_place_of_a_manifest_is_none(tmp_path: Path) -> None:
    write(tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    os.mkfifo(tmp_path / "out" / "manifest.json")
    with pytest.raises(SourceError, match=r"no manifest\.json there"):
        verify_model(tmp_path / "out")


def test_a_copy_that_fills_the_disk_is_told_as_such(tmp_path: Path) -> None:
    copied = shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")])
    full = why_full(copied, tmp_path / "out")
    assert full is not None
    assert "out: cannot be written (No space left on device)" in full.message
    assert why_full(shutil.Error([("a", "b", "[Errno 13] Permission denied: 'a'")]), tmp_path / "out") is None


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("{{function_node SaveV2}} variables/part-0; No space left on device [Op:SaveV2]", "No space left on device"),
        ("Disk quota exceeded: variables/part-0", "Disk quota exceeded"),
        ("database or disk is full", "No space left on device"),
        ("OOM when allocating tensor with shape[8,8]", ""),
    ],
)
def test_a_library_that_fills_the_disk_says_so_in_its_text(tmp_path: Path, said: str, reason: str) -> None:
    full = why_full(RuntimeError(said), tmp_path / "out")
    assert (f"cannot be written ({reason})" in full.message) if full is not None else not reason


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775)])
def test_an_output_is_open_to_whom_the_umask_says(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write(tmp_path / "out")
    finally:
        os.umask(before)
    for folder in (tmp_path / "out", tmp_path / "out" / "sub"):
        assert folder.stat().st_mode & 0o777 == mode
