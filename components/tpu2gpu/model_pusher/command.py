"""`tpu2gpu promote`, `rollback` and `promoted`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tpu2gpu.command_line import Call, Command, Reply, argument
from tpu2gpu.reporting.result_lines import columns

_RUN_VARIABLE = "TPU2GPU_RUN"
_SHOWN_DIGEST = 12


def _promote(call: Call) -> Reply:
    from tpu2gpu.storage.promotion.promoting import promote_model
    from tpu2gpu.storage.promotion.verdicts import read_verdict

    given, options = call.given, call.options
    result = promote_model(
        given["source"],
        given["folder"],
        read_verdict(given["evaluation"]),
        name=options.name,
        require_level=options.require_level,
        keep=options.keep,
        grace_s=options.grace_s,
        settle_s=options.settle_s,
        sign=options.sign,
        require_signature=options.require_signature,
        run_name=os.environ.get(_RUN_VARIABLE, ""),
    )
    what = "promoted" if result.changed else "served already: nothing changed"
    lines = [f"{result.promotion.model} version {result.promotion.version}: {what}", f"folder: {result.folder}"]
    if result.removed:
        lines.append(f"removed: version {', '.join(map(str, result.removed))}")
    return Reply(result, lines)


def _roll_back(call: Call) -> Reply:
    from tpu2gpu.storage.promotion.promoting import roll_back

    given = call.given
    result = roll_back(
        given["folder"],
        to=given["to"],
        name=given["name"] or "",
        reason=given["reason"] or "",
        sign=given["sign"] or "",
        require_signature=given["require_signature"] or "",
    )
    promotion = result.promotion
    was = f"version {promotion.restores} again, in the place of {promotion.replaces}"
    return Reply(result, [f"{promotion.model} version {promotion.version}: {was}", f"folder: {result.folder}"])


def _promoted(call: Call) -> Reply:
    from tpu2gpu.storage.promotion.promoting import list_promoted

    rows = list_promoted(call.given["folder"])
    titles = ("", "model", "version", "what", "when", "digest", "run", "why")
    table = [
        (
            "*" if row["incumbent"] and row["action"] != "confirm" else ("" if row["kept"] else "gone"),
            row["model"],
            str(row["version"]),
            row["action"],
            row["at"],
            row["digest"][:_SHOWN_DIGEST],
            row["run"],
            row["reason"],
        )
        for row in rows
    ]
    return Reply(rows, [*columns([titles, *table]), "* is served now"] if rows else [_nothing_in(call.given["folder"])])


def _nothing_in(folder: str) -> str:
    from tpu2gpu.storage.paths import is_remote

    missing = "" if is_remote(folder) or Path(folder).is_dir() else ": there is no such folder"
    return f"{folder}: nothing was promoted there{missing}"


PROMOTE = Command(
    name="promote",
    summary="Make a blessed model the one that servers of a folder serve.",
    run=_promote,
    options="tpu2gpu.model_pusher.options:PushOptions",
    parameters=(
        argument("SOURCE"),
        argument("FOLDER"),
        click.Option(
            ["--evaluation"],
            required=True,
            metavar="DIR",
            help="what `tpu2gpu evaluate --out` wrote of this very model",
        ),
    ),
)
ROLLBACK = Command(
    name="rollback",
    summary="Make an earlier version of a promoted model the newest.",
    run=_roll_back,
    parameters=(
        argument("FOLDER"),
        click.Option(["--to"], type=click.IntRange(min=1), metavar="N", help="the version  [default: the one before]"),
        click.Option(["--name"], metavar="NAME", help="the model, where several were promoted"),
        click.Option(["--reason"], metavar="TEXT", help="why, for the ledger"),
        click.Option(["--sign"], metavar="KEY", help="sign what is served now with this private key"),
        click.Option(["--require-signature"], metavar="KEY", help="refuse a version that this key did not sign"),
    ),
)
PROMOTED = Command(
    name="promoted",
    summary="List what was promoted into a folder, and what is served now.",
    run=_promoted,
    parameters=(argument("FOLDER"),),
)
