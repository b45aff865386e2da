"""`tpu2gpu verify`."""

from __future__ import annotations

from tpu2gpu.command_line import Call, Command, Reply, argument


def _run(call: Call) -> Reply:
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
    run=_run,
    parameters=(argument("FOLDER"),),
)
