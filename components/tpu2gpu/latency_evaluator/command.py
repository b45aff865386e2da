"""`tpu2gpu evaluate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tpu2gpu.command_line import REPLACES, Call, Command, Reply, argument
from tpu2gpu.reporting.result_lines import columns

_SERVER_FILES = (
    "A server file has the keys address, command, model and start_s: it starts a server; {model} and names that end in "
    "port are filled in there."
)


def _run(call: Call) -> Reply:
    from tpu2gpu.latency_evaluator.evaluating import evaluate_model
    from tpu2gpu.latency_evaluator.report.summary import summary_lines, summary_rows

    given = call.given
    with opened_incumbent(given["incumbent"], _name_of(given["candidates"][0])) as incumbent:
        result = evaluate_model(
            given["reference"],
            given["candidates"],
            given["examples"],
            given["out"],
            call.options,
            incumbent=incumbent,
            force=given["force"],
            progress=call.progress,
        )
    lines = [*summary_lines(result), "", *columns(summary_rows(result)), "", f"report: {result.target / 'report.html'}"]
    return Reply(result, lines, exit_code=0 if result.blessed else 1)


@contextmanager
def opened_incumbent(given: str | None, name: str) -> Iterator[str | Path | None]:
    """Give the model that is promoted now: of a promotion folder, which may be remote, the version that is served.

    Args:
        given: A model, a server's address, or a promotion folder.
        name: The model's name in the promotion folder; the only one there when empty.
    """
    from tpu2gpu.storage.paths import is_remote
    from tpu2gpu.storage.promotion.ledger import LEDGER
    from tpu2gpu.storage.promotion.promoting import fetched_incumbent

    if given is None or not (is_remote(given) or Path(given, LEDGER).is_file()):
        yield given
        return
    with fetched_incumbent(given, name) as served:
        yield served


def _name_of(candidate: str) -> str:
    """Return the name that a serving folder would be promoted by; empty for other models."""
    from tpu2gpu.storage.promotion.promoting import model_name
    from tpu2gpu.storage.publishing import MANIFEST

    return model_name(candidate) if Path(candidate, MANIFEST).is_file() else ""


def _models() -> str:
    from tpu2gpu.running.opening import model_forms

    return f"A model is {model_forms()}. {_SERVER_FILES}"


EVALUATE = Command(
    name="evaluate",
    summary="Measure candidates against a reference, and bless or refuse them.",
    run=_run,
    options="tpu2gpu.latency_evaluator.options:EvaluateOptions",
    force=REPLACES,
    parameters=(
        argument("REFERENCE"),
        click.Argument(["candidates"], nargs=-1, required=True, metavar="CANDIDATE..."),
        click.Option(
            ["--examples"],
            multiple=True,
            metavar="FILES",
            help="real examples, in any form: a path, a glob or a folder; may be repeated",
        ),
        click.Option(["--out"], required=True, metavar="DIR", help="folder for the reports"),
        click.Option(["--incumbent"], metavar="PATH", help="what is promoted now: a model, or the promotion folder"),
    ),
    details=_models,
)
