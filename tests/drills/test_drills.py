"""Commands that are killed, run out of room or lose their source leave nothing half, and the next run is fine."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.drills.kills import SOURCES, STEPS
from tests.models.evaluation_models import saved_model
from tpu2gpu import CastOptions, cast_checkpoint
from tpu2gpu.cli.main import main
from tpu2gpu.errors import (
    CheckpointError,
    EnvironmentLacksError,
    OutputExistsError,
    SourceError,
    Tpu2GpuError,
    UsageError,
)
from tpu2gpu.storage.publishing import publish, verify_model
from tpu2gpu.storage.unfinished import clean, scratch
from tpu2gpu.tensorbundle.writer import BundleWriter

MIB = 1 << 20


def drill(step: str, kills: int) -> None:
    """Run a drill in a process that can be forked, which this one's threads forbid."""
    command = [sys.executable, "-m", "tests.drills.kills", step, str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert f"'killed': {kills}" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_is_killed_at_random_moments_leaves_nothing_half(step: str) -> None:
    drill(step, 200)


def test_a_cast_that_is_killed_leaves_nothing_half() -> None:
    drill("cast", 3)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_requests_leave_memory_flat() -> None:
    requests = os.environ.get("TPU2GPU_DRILL_REQUESTS", "100000")
    command = [sys.executable, "-m", "tests.drills.served_requests", requests]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    slope = re.search(r"slope (\S+) bytes a request", done.stdout)
    assert slope
    assert float(slope[1]) < 8, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_of_a_hostile_model_nothing_runs_stays_or_escapes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.drills.hostile_corpus"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 faults" in done.stdout


def checkpoint(folder: Path, mebibytes: int = 4) -> Path:
    with BundleWriter(folder / "model.ckpt") as writer:
        for number in range(mebibytes):
            writer.add_array(f"weights{number}", np.full(MIB // 4, number, np.float32))
    return folder / "model.ckpt"


def cast(source: Path, target: Path) -> None:
    cast_checkpoint(source, target, CastOptions(to="bfloat16"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        print("file systems cannot be mounted here")
        pytest.skip("file systems cannot be mounted here")
    yield mounted
    subprocess.run(["umount", mounted], check=True)


def test_a_full_disk_is_told_with_what_it_would_take(small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(
        EnvironmentLacksError, match=r"out: cannot be written \(No space left.*bytes, and there is room"
    ):
        cast(checkpoint(tmp_path), small_disk / "out")
    assert list(small_disk.iterdir()) == []


_QUICK = ("import", "freeze", "unfreeze", "promote")


@pytest.mark.parametrize(
    "step", [*_QUICK, *(pytest.param(it, marks=pytest.mark.slow) for it in ("convert", "evaluate", "optimize"))]
)
def test_every_step_tells_of_a_full_disk(
    step: str, small_disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["mount", "-o", "remount,size=8k", small_disk], check=True)
    assert main([step, *words_of(step, tmp_path, small_disk / "out")]) == 4
    assert re.search(
        r"out: cannot be written .No space left .*: it needs more than [\d,]+ bytes", capfd.readouterr().err
    )
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] in ([], [".promotion.lock"])


@pytest.mark.parametrize("command", ["init", "compile"])
def test_what_has_no_room_for_its_files_leaves_none(
    command: str, small_disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["mount", "-o", "remount,size=8k", small_disk], check=True)
    settings = tmp_path / "settings.yaml"
    settings.write_text("kubeflow: {image: 'registry.example.com/tpu2gpu:1'}\npromotion_uri: s3://bucket/promoted\n")
    words = {"init": [small_disk / "out"], "compile": ["--settings", settings, "--out", small_disk / "out"]}
    assert main([command, *map(str, words[command])]) == 4
    assert "out: cannot be written (No space left on device): it needs more than 8,192" in capfd.readouterr().err
    assert list(small_disk.iterdir()) == []


def test_a_disk_without_room_for_a_folder_is_full_too(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,nr_inodes=1", small_disk], check=True)
    with pytest.raises(EnvironmentLacksError, match=r"out: cannot be written .No space left"):
        cast(checkpoint(tmp_path), small_disk / "out")


def words_of(step: str, home: Path, target: Path) -> list[str]:
    """Make the sources of a command, and return its words."""
    if step in ("cast", "evaluate", "promote"):
        sources, words = SOURCES[step]
        sources(home)
        return words(home, target, 1)
    saved_model(home / "source")
    if step == "unfreeze":
        assert main(["freeze", str(home / "source"), str(home / "frozen")]) == 0
        return [str(home / "frozen"), str(target)]
    return [str(home / "source"), str(target), *(["--synthetic", "8"] if step == "optimize" else [])]


def test_a_limit_on_the_size_of_files_is_told_too(tmp_path: Path) -> None:
    source = checkpoint(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, limits[1]))
    try:
        with pytest.raises(EnvironmentLacksError, match=r"out: cannot be written \(File too large\)"):
            cast(source, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)
    assert not (tmp_path / "out").exists()


def test_a_file_system_that_cannot_be_written_is_told(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(UsageError, match=r"out: cannot be written \(Read-only file system\)"):
        cast(checkpoint(tmp_path), small_disk / "out")


@pytest.mark.parametrize("step", ["cast", "freeze"])
def test_a_source_that_is_cut_off_while_it_is_read_ends_in_an_error(step: str, tmp_path: Path) -> None:
    """In a process of its own: a look behind the end of a mapped file kills."""
    if step == "cast":
        checkpoint(tmp_path / "source", 64)
        (data,) = (tmp_path / "source").glob("*.data-*")
        source = tmp_path / "source" / "model.ckpt"
    else:
        source = saved_model(tmp_path / "source") or tmp_path / "source"
        data = tmp_path / "source" / "variables" / "variables.data-00000-of-00001"
    script = f"""
import os, sys, threading
from tpu2gpu.cli.main import main
from tpu2gpu.tensorbundle import streaming
def cutting(read):
    def cut(*arguments):
        os.truncate({str(data)!r}, 1)
        return read(*arguments)
    return cut
os.pread, os.preadv = cutting(os.pread), cutting(os.preadv)
sys.exit(main([{step!r}, {str(source)!r}, {str(tmp_path / "out")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "became shorter" in done.stderr or "index and the data disagree" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_source_whose_values_change_while_it_is_read_ends_in_an_error(tmp_path: Path) -> None:
    source = checkpoint(tmp_path)
    (data,) = tmp_path.glob("*.data-*")
    with data.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"other")
    with pytest.raises(CheckpointError, match="checksum"):
        cast(source, tmp_path / "out")


@pytest.mark.parametrize("name", ["model.ckpt.index", "model.ckpt.data-00000-of-00001"])
def test_nobody_waits_for_a_pipe(name: str, tmp_path: Path) -> None:
    source = checkpoint(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(Tpu2GpuError):
        cast(source, tmp_path / "out")


def test_of_two_writers_one_succeeds_and_the_other_is_told(tmp_path: Path) -> None:
    ready, told = threading.Barrier(2), []

    def write(number: int) -> None:
        try:
            with publish(tmp_path / "out", about={"step": "test"}) as staging:
                (staging.folder / "file").write_text(str(number))
                ready.wait(10)
        except OutputExistsError as error:
            told.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(told) <= 1
    verify_model(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_clock_that_goes_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with publish(tmp_path / "out", about={"step": "test"}):
        monkeypatch.setattr("time.time", lambda: 0.0)
    verify_model(tmp_path / "out")
    (tmp_path / ".out.partial-abc").mkdir()  # of a dead process, made in what is the future now
    with publish(tmp_path / "out", force=True, about={"step": "test"}):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_temporary_folders_of_dead_processes_are_removed_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch() as mine:
        (tmp_path / ".tpu2gpu.partial-dead").mkdir()
        (tmp_path / "of others").mkdir()
        (tmp_path / "elsewhere").mkdir()
        assert clean(tmp_path / "elsewhere") == [tmp_path / ".tpu2gpu.partial-dead"]
        (tmp_path / ".tpu2gpu.partial-dead").mkdir()
        with scratch():
            assert not (tmp_path / ".tpu2gpu.partial-dead").exists()
        assert mine.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "of others"]


def test_a_graph_that_changes_while_it_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tpu2gpu.storage import snapshots

    file = tmp_path / "graph.pb"
    for limit in (1 << 30, 0):  # in memory, and mapped from a copy
        file.write_bytes(bytes(1000))
        monkeypatch.setattr(snapshots, "_IN_MEMORY_BYTES", limit)
        kept = snapshots.snapshot(file)
        os.truncate(file, 1)
        assert bytes(kept) == bytes(1000)
        shutil.rmtree(tmp_path / "none", ignore_errors=True)
    monkeypatch.setattr(snapshots, "_mapped_copy", lambda file, size: os.truncate(tmp_path / "graph.pb", 2) or b"")
    file.write_bytes(bytes(1000))
    with pytest.raises(SourceError, match="changed while it was read"):
        snapshots.snapshot(file)
