"""Signatures of folders, by OpenSSF's model-signing: a key of an elliptic curve, or one with its certificates.

The signature lies in the folder, as `model.sig`, and covers all its other files, the manifest among them. The command
`model_signing` makes and checks it: beside this Python where that is possible, or wherever PATH has it.

Source: https://github.com/sigstore/model-transparency, which tells of the bundle's form too.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from tpu2gpu.errors import EnvironmentLacksError, ProofError, SourceError, UsageError, foreign_errors
from tpu2gpu.plain_json import parse_json
from tpu2gpu.storage.paths import fetched, place
from tpu2gpu.storage.publishing import SIGNATURE
from tpu2gpu.storage.unfinished import scratch
from tpu2gpu.storage.whole_files import read_plain_text

_COMMAND = "model_signing"
_PRIVATE_KEY = "PRIVATE KEY"
_PUBLIC_KEY = "PUBLIC KEY"
_CERTIFICATE = "CERTIFICATE"
_ENCRYPTED = "ENCRYPTED"
_CHANGED = re.compile(r"Hash mismatch for '([^']+)'")
_PEM_CHARACTERS = 1 << 20  # a key and its certificates have some thousands


def sign_folder(folder: Path, key: str | os.PathLike[str]) -> Path:
    """Sign a folder's files; a signature that is there is replaced.

    Args:
        folder: The folder.
        key: A file with a private key in PEM form, and behind it its certificates where it has some, its own first.

    Returns:
        The signature's path.

    Raises:
        SourceError: There is no such file.
        UsageError: It holds no private key that can be used.
        ProofError: Its certificate has expired.
        EnvironmentLacksError: model-signing is not installed.
    """
    blocks = _read_pem(key, "a private key")
    private = [text for kind, text in blocks if kind.endswith(_PRIVATE_KEY)]
    certificates = [text for kind, text in blocks if kind == _CERTIFICATE]
    if len(private) != 1:
        raise UsageError(f"{key}: holds {len(private) or 'no'} private keys in PEM form, not one")
    if _ENCRYPTED in private[0]:
        raise UsageError(f"{key}: the key is encrypted", hint="give one without a password, for instance of a secret")
    with foreign_errors(UsageError, f"{key}: a certificate is damaged"):
        own_chain = [_parse_pem(text) for text in certificates]
    _check_dates(own_chain, str(key))
    signature = folder / SIGNATURE
    with scratch() as folder_of_keys:  # only this user may read it
        key_file = _write(Path(folder_of_keys, "key.pem"), private)
        arguments = ["sign", "key", str(folder), "--private_key", key_file]
        if certificates:
            own, chain = _write(Path(folder_of_keys, "own.pem"), certificates[:1]), Path(folder_of_keys, "chain.pem")
            arguments = ["sign", "certificate", str(folder), "--private_key", key_file, "--signing_certificate", own]
            arguments += ["--certificate_chain", _write(chain, certificates[1:] or certificates[:1])]
        written = Path(folder_of_keys, SIGNATURE)
        if said := _run([*arguments, "--signature", str(written), "--ignore-paths", str(signature)]):
            raise UsageError(
                f"{key}: cannot sign with it ({said})", hint="give a key of the curve P-256, P-384 or P-521"
            )
        shutil.copyfile(written, signature)
    return signature


def check_signature(folder: str | os.PathLike[str], trusted: str | os.PathLike[str]) -> None:
    """Check that a folder's files are those that a trusted key signed.

    Args:
        folder: The folder.
        trusted: A file with the public key in PEM form, or with the certificates of the authorities that are trusted.

    Raises:
        SourceError: There is no such file.
        UsageError: It holds neither a public key nor a certificate.
        ProofError: The signature is missing, or expired, or by another key, or files have changed since.
        EnvironmentLacksError: model-signing is not installed.
    """
    kinds = [kind for kind, _ in _read_pem(trusted, "a public key or certificates")]
    if _CERTIFICATE in kinds:
        arguments = ["verify", "certificate", "--certificate_chain", str(trusted)]
    elif kinds == [_PUBLIC_KEY]:
        arguments = ["verify", "key", "--public_key", str(trusted)]
    else:
        raise UsageError(f"{trusted}: holds neither a public key nor certificates in PEM form")
    if not (place(folder) / SIGNATURE).is_file():
        raise ProofError(f"{folder}: not signed: there is no {SIGNATURE}", hint="sign it: tpu2gpu sign")
    with fetched(place(folder)) as local:
        signature = local / SIGNATURE
        certificates = _certificates_of(signature, str(folder))
        if bool(certificates) != (_CERTIFICATE in kinds):
            found, wanted = ("a certificate", "a key") if certificates else ("a key", "a certificate")
            raise ProofError(f"{folder}: signed by {found}, and {trusted} trusts {wanted}", hint="give what signed it")
        if said := _run([*arguments, str(local), "--signature", str(signature)]):
            raise ProofError(f"{folder}: its signature does not hold for {trusted} ({said})", hint="sign it again")
        _check_dates(certificates, f"{folder}: its signature")


def _read_pem(path: str | os.PathLike[str], what: str) -> list[tuple[str, str]]:
    """Return the kinds and the texts of a file's blocks."""
    try:
        with Path(path).open(encoding="ascii", errors="replace") as file:  # may be a pipe: keys come out of vaults
            text = file.read(_PEM_CHARACTERS)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})", hint=f"give a file with {what}") from error
    return [(match[1], match[0]) for match in re.finditer(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", text, re.S)]


def _write(path: Path, blocks: Sequence[str]) -> str:
    path.write_text("\n".join(blocks) + "\n", encoding="ascii")
    return str(path)


def _parse_pem(text: str) -> bytes:
    return base64.b64decode("".join(text.splitlines()[1:-1]))


def _certificates_of(signature: Path, of: str) -> list[bytes]:
    """Return the certificates of a signature's bundle, in DER form; none where a key alone signed."""
    try:
        material = parse_json(read_plain_text(signature))["verificationMaterial"]
        chain = material.get("x509CertificateChain", {"certificates": []})["certificates"]
        return [base64.b64decode(one["rawBytes"]) for one in chain]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProofError(f"{of}: {SIGNATURE} is no signature ({error!r})", hint="sign it again") from error


def _check_dates(certificates: Sequence[bytes], of: str) -> None:
    """Check that certificates are valid now: model-signing asks that they were valid when they were issued."""
    if not certificates:
        return
    from cryptography import x509

    now = datetime.now(timezone.utc)
    for der in certificates:
        with foreign_errors(ProofError, f"{of} has a damaged certificate", hint="sign it again"):
            certificate = x509.load_der_x509_certificate(der)
        name = certificate.subject.rfc4514_string()
        if certificate.not_valid_after_utc < now:
            raise ProofError(
                f"{of}: the certificate of {name} expired at {certificate.not_valid_after_utc.isoformat()}"
            )
        if certificate.not_valid_before_utc > now:
            begins = certificate.not_valid_before_utc.isoformat()
            raise ProofError(f"{of}: the certificate of {name} is not valid before {begins}")


def _run(arguments: Sequence[str]) -> str:
    """Run model-signing's command over all files, those of git too; return why it failed, or nothing."""
    command = shutil.which(_COMMAND, path=sysconfig.get_path("scripts")) or shutil.which(_COMMAND)
    if command is None:
        raise EnvironmentLacksError(
            f"signatures want OpenSSF's model-signing: no command {_COMMAND} beside this Python or in PATH",
            hint="pip install 'tpu2gpu[signing]'; on Python 3.10, whose pipeline holds urllib3 back, apart from it: "
            "pipx install model-signing, pipx inject model-signing pyopenssl",
        )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    run = subprocess.run(
        [command, *arguments, "--no-ignore-git-paths"], capture_output=True, text=True, check=False, env=environment
    )
    if run.returncode == 0:
        return ""
    lines = [line.strip() for line in (run.stderr or run.stdout).splitlines() if line.strip()]
    said = lines[-1].partition("failed with error: ")[2] or lines[-1] if lines else f"it ended with {run.returncode}"
    changed = _CHANGED.findall(said)
    return f"changed since: {', '.join(changed)}" if changed else said
