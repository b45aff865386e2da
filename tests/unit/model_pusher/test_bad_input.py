"""What a promotion cannot take ends with one line and the documented exit code, and changes nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from tests.models.serving_folders import serving_folder, version_folder
from tests.models.signers import certified, fetch_model_signing, key_pair
from tests.unit.model_pusher.test_command import evaluated
from tpu2gpu.cli.main import main
from tpu2gpu.storage.signing import sign_folder

_NOBODY = 65534


@attrs.frozen
class Place:
    """A promotion folder in which versions 1 and 2 stand, and a third model that is blessed.

    Attributes:
        folder: The promotion folder.
        source: The third model.
        evaluation: The verdict on it.
        other: A verdict on another model.
    """

    folder: Path
    source: Path
    evaluation: Path
    other: Path

    def promote(self, *more: str, source: Path | None = None, evaluation: Path | None = None) -> list[str]:
        given = ["promote", str(source or self.source), str(self.folder)]
        return [*given, "--evaluation", str(evaluation or self.evaluation), *more]


@pytest.fixture(scope="module")
def _place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="tpu2gpu-promotion-") as name:  # pytest's own folders are its user's alone
        folder = Path(name)
        folder.chmod(0o755)
        sources = [serving_folder(folder / f"converted-{value}", value) for value in (1, 2, 3)]
        evaluations = [evaluated(source, folder / f"evaluation-{i}") for i, source in enumerate(sources)]
        place = Place(folder / "promoted", sources[2], evaluations[2], evaluations[0])
        for source, evaluation in zip(sources[:2], evaluations[:2], strict=True):
            assert main(place.promote(source=source, evaluation=evaluation)) == 0
        yield place


@pytest.fixture
def place(_place: Place) -> Iterator[Place]:
    """The folder, which must be the same afterwards."""
    before = snapshot(_place.folder)
    yield _place
    assert snapshot(_place.folder) == before


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".promotion.lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str]) -> Callable[[list[str], int], str]:
    """Runs a command that must end with an exit code; gives what it says, in which nothing speaks of a mistake."""

    def run(command: list[str], exit_code: int) -> str:
        capfd.readouterr()
        assert main(command) == exit_code
        said = capfd.readouterr()
        assert said.out == ""
        lines = said.err.splitlines()
        if lines[0].startswith("tpu2gpu "):  # what was being started
            del lines[0]
        assert lines[0].startswith("error: ")
        assert "Traceback" not in said.err
        assert all(line.startswith("  - ") for line in lines[1:])  # one line, and each finding
        return "\n".join(lines)

    return run


Told = Callable[[list[str], int], str]


def test_an_unknown_version(place: Place, told: Told) -> None:
    said = told(["rollback", str(place.folder), "--to", "9"], 3)
    assert "adder: no version 9; there are 1, 2" in said


def test_a_promotion_folder_of_another_layout(place: Place, told: Told, tmp_path: Path) -> None:
    served = version_folder(tmp_path / "served", "tf_serving")
    command = place.promote(source=served, evaluation=evaluated(served, tmp_path / "evaluation"))
    assert "holds versions in the layout triton" in told(command, 2)


@pytest.mark.parametrize("what", ["the stock Pusher's", "another's version", "another's repository"])
def test_a_folder_that_others_fill(told: Told, place: Place, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "theirs"
    path = {
        "the stock Pusher's": folder / "1700000000" / "saved_model.pb",
        "another's version": folder / "adder" / "7" / "model.py",
        "another's repository": folder / "adder" / "config.pbtxt",
    }[what]
    path.parent.mkdir(parents=True)
    path.write_text("theirs")
    told(attrs.evolve(place, folder=folder).promote(), 2)
    assert snapshot(folder) == {path.relative_to(folder).as_posix(): b"theirs"}


def test_a_blessing_of_another_digest(place: Place, told: Told) -> None:
    assert "the verdict is on sha256:" in told(place.promote(evaluation=place.other), 1)


def test_a_missing_signature(place: Place, told: Told, tmp_path: Path) -> None:
    trusted = str(key_pair(tmp_path, "alice").trusted)
    assert "not signed: there is no model.sig" in told(place.promote("--require-signature", trusted), 1)
    assert "not signed: there is no model.sig" in told(["verify", str(place.source), "--signature", trusted], 3)
    assert "not signed" in told(["rollback", str(place.folder), "--require-signature", trusted], 1)
    assert "none.pub: cannot be read" in told(place.promote("--require-signature", "none.pub"), 3)


def test_an_expired_signature(place: Place, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := fetch_model_signing():
        print(reason)
        pytest.skip(reason)
    carol = certified(tmp_path, "carol", days=-1)
    source = serving_folder(tmp_path / "signed", 3)
    with monkeypatch.context() as then:
        then.setattr("tpu2gpu.storage.signing._check_dates", lambda certificates, of: None)
        sign_folder(source, carol.private)
    said = told(place.promote("--require-signature", str(carol.trusted), source=source), 1)
    assert "the certificate of CN=carol expired at" in said
    assert "expired at" in told(["verify", str(source), "--signature", str(carol.trusted)], 3)
    assert "expired at" in told(place.promote("--sign", str(carol.private)), 3)


@contextmanager
def nobody() -> Iterator[None]:
    """Let the block run as a user to whom nothing belongs; one that is nobody in particular already is enough."""
    if os.geteuid():
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_permission_to_write(place: Place, told: Told) -> None:
    writable = [path for path in (place.folder, *place.folder.rglob("*")) if path.stat().st_mode & 0o222]
    modes = {path: path.stat().st_mode for path in writable}
    for path in writable:
        path.chmod(modes[path] & ~0o222)
    try:
        with nobody():
            assert "cannot be written (Permission denied)" in told(place.promote(), 4)
            assert "cannot be written (Permission denied)" in told(["rollback", str(place.folder)], 4)
            new = attrs.evolve(place, folder=place.folder.parent / "new")
            assert "cannot be written (Permission denied)" in told(new.promote(), 4)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert not (place.folder.parent / "new").exists()


def test_no_permission_to_write_a_models_folder(place: Place, told: Told) -> None:
    (place.folder / ".promotion.lock").chmod(0o666)
    try:
        with nobody():
            assert "adder" in told(place.promote(), 4)
    finally:
        (place.folder / ".promotion.lock").chmod(0o644)


def test_no_permission_to_read(place: Place, told: Told) -> None:
    mode = place.folder.stat().st_mode
    place.folder.chmod(0o700)
    try:
        with nobody():
            for command in (["promoted", str(place.folder)], ["rollback", str(place.folder)], place.promote()):
                assert "Permission denied" in told(command, 4)
    finally:
        place.folder.chmod(mode)
