"""Keys, certificates, and OpenSSF's model-signing where the environment cannot hold it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from datetime import datetime, timedelta, timezone
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

_ROOT = Path(__file__).parents[2]
_LOCK = Path(__file__).with_name("model_signing.txt")
_OWN = _ROOT / ".tools" / f"model_signing-{sys.version_info.major}.{sys.version_info.minor}"
_INSTALL = """
set -euo pipefail
unset PIP_FIND_LINKS UV_FIND_LINKS
if [[ -n ${PIP_INDEX_URL:-} ]]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"; fi
uv=$(.ci/environment --uv)
"$uv" venv --quiet --clear --python "$1" "$2"
"$uv" pip install --quiet --python "$2/bin/python" --require-hashes --requirements "$3"
"""


def fetch_model_signing() -> str:
    """Has the command `model_signing` in PATH; returns why this machine cannot have it, or nothing."""
    if shutil.which("model_signing", path=sysconfig.get_path("scripts")):
        return ""
    stamp = _OWN / "installed.txt"
    if not (stamp.is_file() and stamp.read_bytes() == _LOCK.read_bytes()):
        command = ["bash", "-c", _INSTALL, "bash", sys.executable, str(_OWN), str(_LOCK)]
        run = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
        if run.returncode:
            return f"no model-signing: it cannot be installed ({' '.join(run.stderr.split())})"
        shutil.copyfile(_LOCK, stamp)
    if str(_OWN / "bin") not in os.environ["PATH"]:
        os.environ["PATH"] = f"{os.environ['PATH']}{os.pathsep}{_OWN / 'bin'}"
    return ""


@attrs.frozen
class Signer:
    """Whose signatures can be checked.

    Attributes:
        private: The file to sign with.
        trusted: The file to check with.
    """

    private: Path
    trusted: Path


def key_pair(folder: Path, name: str) -> Signer:
    """A key of the curve P-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Signer(
        _write(folder / f"{name}.key", _private(key)),
        _write(folder / f"{name}.pub", key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
    )


def certified(folder: Path, name: str, *, days: float = 1) -> Signer:
    """A key with a certificate by an authority; its last days lie behind it where `days` is negative."""
    now = datetime.now(timezone.utc)
    ends = now + timedelta(days=days)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}'s authority")])
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only"),
        False,
    ) | {"decipher_only": False}
    authority = (
        _certificate(root, root, root_key, now - timedelta(days=30), now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    certificate = (
        _certificate(own, root, key, now - timedelta(days=20), ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=False, **usage), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    return Signer(
        _write(folder / f"{name}.pem", _private(key) + certificate.public_bytes(Encoding.PEM)),
        _write(folder / f"{name}.authority.pem", authority.public_bytes(Encoding.PEM)),
    )


def _certificate(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
