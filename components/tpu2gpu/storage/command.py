"""`tpu2gpu verify` and `tpu2gpu clean`."""

from __future__ import annotations

from tpu2gpu.command_line import Call, Command, Reply, argument


def _verify(call: Call) -> Reply:
    from tpu2gpu.storage.publishing import verify_model

    folder = call.given["folder"]
    manifest = verify_model(folder)
    made_by = f", made by '{manifest['step']}'" if manifest.get("step") else ""
    run = f" in the run {manifest['run']}" if manifest.get("run") else ""
    return Reply(
        {"verified": True, **manifest},
        [f"{folder}: {len(manifest['files'])} files, all as they were written{made_by}{run}; {manifest['digest']}"],
    )


VERIFY = Command(
    name="verify",
    summary="Check a folder's files against its manifest.",
    run=_verify,
    parameters=(argument("FOLDER"),),
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
