"""Signatures by OpenSSF's model-signing: whoever is not trusted, and whatever was altered, is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.models.serving_folders import serving_folder
from tests.models.signers import Signer, certified, fetch_model_signing, key_pair
from tests.unit.model_pusher.test_command import evaluated
from tpu2gpu.cli.main import main
from tpu2gpu.errors import EnvironmentLacksError, ProofError, SourceError, UsageError
from tpu2gpu.storage.promotion.promoting import find_incumbent
from tpu2gpu.storage.signing import check_signature, sign_folder


@pytest.fixture(scope="module", autouse=True)
def model_signing() -> None:
    if reason := fetch_model_signing():
        print(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return key_pair(tmp_path_factory.mktemp("alice"), "alice")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, alice: Signer) -> Path:
    folder = serving_folder(tmp_path_factory.mktemp("signed") / "serving", 1)
    sign_folder(folder, alice.private)
    return folder


def test_a_signature_by_a_key_holds_for_it_alone(signed: Path, alice: Signer, tmp_path: Path) -> None:
    check_signature(signed, alice.trusted)
    with pytest.raises(ProofError, match=r"does not hold for .*mallory"):
        check_signature(signed, key_pair(tmp_path, "mallory").trusted)
    with pytest.raises(ProofError, match=r"signed by a key, and .* trusts a certificate"):
        check_signature(signed, certified(tmp_path, "eve").trusted)


def test_openssfs_own_command_takes_the_signature(signed: Path, alice: Signer) -> None:
    tool = shutil.which("model_signing", path=sysconfig.get_path("scripts")) or "model_signing"
    command = [tool, "verify", "key", str(signed), "--signature", str(signed / "model.sig")]
    command += ["--public_key", str(alice.trusted)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "plan.json").write_text("{}"), r"changed since: plan\.json"),
        (lambda folder: (folder / ".gitignore").write_text("*"), r"Extra files found.*\.gitignore"),
        (lambda folder: (folder / "manifest.json").unlink(), r"Missing files.*manifest\.json"),
        (lambda folder: (folder / "model.sig").write_text("{}"), r"model\.sig is no signature"),
        (lambda folder: (folder / "model.sig").unlink(), r"not signed: there is no model\.sig"),
    ],
    ids=["changed", "added", "missing", "no signature", "unsigned"],
)
def test_an_altered_folder_is_refused(signed: Path, alice: Signer, tmp_path: Path, change: object, told: str) -> None:
    folder = Path(shutil.copytree(signed, tmp_path / "serving"))
    change(folder)  # type: ignore[operator]
    with pytest.raises(ProofError, match=told):
        check_signature(folder, alice.trusted)


def test_a_certificate_is_trusted_for_its_authority_and_while_it_is_valid(tmp_path: Path) -> None:
    folder = serving_folder(tmp_path / "serving", 1)
    bob = certified(tmp_path, "bob")
    sign_folder(folder, bob.private)
    check_signature(folder, bob.trusted)
    with pytest.raises(ProofError, match=r"does not hold for .*eve"):
        check_signature(folder, certified(tmp_path, "eve").trusted)
    expired = certified(tmp_path, "carol", days=-1)
    with pytest.raises(ProofError, match=r"carol\.pem: the certificate of CN=carol expired at"):
        sign_folder(folder, expired.private)


def test_a_signature_expires_with_its_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = serving_folder(tmp_path / "serving", 1)
    carol = certified(tmp_path, "carol", days=-1)
    with monkeypatch.context() as then:
        then.setattr("tpu2gpu.storage.signing._check_dates", lambda certificates, of: None)
        sign_folder(folder, carol.private)
        check_signature(folder, carol.trusted)  # model-signing itself asks for the day of issue alone
    with pytest.raises(ProofError, match="its signature: the certificate of CN=carol expired at"):
        check_signature(folder, carol.trusted)


def test_what_is_no_key_is_told_before_anything_is_signed(signed: Path, alice: Signer, tmp_path: Path) -> None:
    before = (signed / "model.sig").read_bytes()
    with pytest.raises(SourceError, match="cannot be read"):
        sign_folder(signed, tmp_path / "none.key")
    with pytest.raises(UsageError, match="holds no private keys"):
        sign_folder(signed, alice.trusted)
    with pytest.raises(UsageError, match="holds neither a public key nor certificates"):
        check_signature(signed, alice.private)
    assert (signed / "model.sig").read_bytes() == before


def test_a_device_is_no_key_and_fills_no_memory(signed: Path) -> None:
    for use in (sign_folder, check_signature):
        with pytest.raises((SourceError, UsageError), match="/dev/zero"):
            use(signed, "/dev/zero")


def test_where_model_signing_is_missing_the_way_to_it_is_told(
    signed: Path, alice: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(EnvironmentLacksError, match="pipx inject model-signing pyopenssl"):
        check_signature(signed, alice.trusted)


def test_a_pusher_that_wants_signed_models_takes_them_alone_and_signs_what_it_promotes(
    signed: Path, alice: Signer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "promoted"
    unsigned = serving_folder(tmp_path / "unsigned", 2)
    pushed = ["--require-signature", str(alice.trusted), "--sign", str(alice.private)]

    def push(source: Path, name: str) -> int:
        evaluation = evaluated(source, tmp_path / name)
        return main(["promote", str(source), str(folder), "--evaluation", str(evaluation), *pushed])

    assert push(unsigned, "one") == 1
    assert "not signed: there is no model.sig" in capfd.readouterr().err
    assert not folder.exists()
    assert main(["sign", str(unsigned), "--key", str(alice.private)]) == 0
    assert push(signed, "two") == 0
    assert push(unsigned, "three") == 0
    incumbent = find_incumbent(folder)
    assert main(["verify", str(incumbent), "--signature", str(alice.trusted)]) == 0
    assert f"signed as {alice.trusted} asks" in capfd.readouterr().out
    assert main(["rollback", str(folder), *pushed]) == 0
    capfd.readouterr()
    assert main(["verify", str(find_incumbent(folder)), "--signature", str(alice.trusted), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["signed"] is True
    (folder / "adder" / "2" / "model.sig").unlink()
    assert main(["rollback", str(folder), "--to", "2", *pushed]) == 1
    assert main(["verify", str(folder / "adder" / "2"), "--signature", str(alice.trusted)]) == 3
    assert str(find_incumbent(folder)).endswith("/3")
