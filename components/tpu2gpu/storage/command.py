"""`tpu2gpu verify`, `tpu2gpu sign` and `tpu2gpu clean`."""

from __future__ import annotations

from pathlib import Path

import click

from tpu2gpu.command_line import Call, Command, Reply, argument


def _verify(call: Call) -> Reply:
    from tpu2gpu.storage.publishing import verify_model
    from tpu2gpu.storage.signing import check_signature

    folder, trusted = call.given["folder"], call.given["signature"]
    manifest = verify_model(folder)
    if trusted:
        check_signature(folder, trusted)
    made_by = f", made by '{manifest['step']}'" if manifest.get("step") else ""
    run = f" in the run {manifest['run']}" if manifest.get("run") else ""
    lines = [f"{folder}: {len(manifest['files'])} files, all as they were written{made_by}{run}; {manifest['digest']}"]
    if trusted:
        lines.append(f"signed as {trusted} asks")
    return Reply({"verified": True, "signed": bool(trusted), **manifest}, lines)


VERIFY = Command(
    name="verify",
    summary="Check a folder's files against its manifest.",
    run=_verify,
    parameters=(
        argument("FOLDER"),
        click.Option(
            ["--signature"],
            metavar="KEY",
            help="check its signature too: by this public key, or a certificate of these authorities (PEM)",
        ),
    ),
)


def _sign(call: Call) -> Reply:
    from tpu2gpu.storage.publishing import verify_model
    from tpu2gpu.storage.signing import sign_folder

    folder = Path(call.given["folder"])
    manifest = verify_model(folder)
    signature = sign_folder(folder, call.given["key"])
    return Reply({"signature": str(signature), "digest": manifest["digest"]}, [f"signed: {signature}"])


SIGN = Command(
    name="sign",
    summary="Sign a folder's files, for a pusher that takes signed models alone.",
    run=_sign,
    parameters=(
        argument("FOLDER"),
        click.Option(
            ["--key"],
            required=True,
            metavar="KEY",
            help="the private key (PEM, its certificates behind it)",
        ),
    ),
)


def _clean(call: Call) -> Reply:
    from tpu2gpu.storage.unfinished import clean

    gone = [str(path) for path in clean(call.given["folder"])]
    lines = [f"removed {path}" for path in gone] or [f"{call.given['folder']}: nothing was left behind"]
    return Reply({"removed": gone}, lines)


CLEAN = Command(
    name="clean",
    summary="Remove what killed runs left behind in a folder and below it.",
    run=_clean,
    parameters=(argument("FOLDER"),),
)
