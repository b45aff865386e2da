"""The model card of a promoted version: a Markdown page for whoever meets the folder on a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tpu2gpu.errors import ManifestError, foreign_errors
from tpu2gpu.plain_json import parse_json
from tpu2gpu.reporting.printable import printable
from tpu2gpu.reporting.report import markdown_cell, plain_markdown
from tpu2gpu.storage.promotion.ledger import Promotion
from tpu2gpu.storage.whole_files import read_plain_text

CARD = "MODEL_CARD.md"
_PLAN = "plan.json"


def write_model_card(path: Path, promotion: Promotion, manifest: Mapping[str, Any], source: Path) -> None:
    """Write what a version takes and gives, how it was proved, and where it came from.

    Args:
        path: The card.
        promotion: The version's record.
        manifest: The serving folder's manifest.
        source: The serving folder.

    Raises:
        ManifestError: The serving folder's plan is damaged.
    """
    with foreign_errors(ManifestError, f"{source / _PLAN}: not the plan of a serving folder", hint="convert it again"):
        plan = parse_json(read_plain_text(source / _PLAN)) if (source / _PLAN).is_file() else {}
        lines = list(_lines(promotion, manifest, plan))
    path.write_text(printable("\n".join(lines)) + "\n", encoding="utf-8")


def _lines(promotion: Promotion, manifest: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {plain_markdown(promotion.model)}, version {promotion.version}"
    yield ""
    by = f" by the run {promotion.run}" if promotion.run else ""
    yield plain_markdown(f"Promoted {promotion.at}{by}: {promotion.reason}.")
    for title, key in (("Inputs", "inputs"), ("Outputs", "outputs")):
        if plan.get(key):
            yield from ("", f"## {title}", "", "| name | type | shape |", "|---|---|---|")
            for spec in plan[key]:
                yield f"| {markdown_cell(spec['name'])} | {markdown_cell(spec['dtype'])} | {_shape(spec['shape'])} |"
    yield from ("", "## How it was proved", "")
    if plan:
        yield f"- Dtype: {plan['dtype']}; back end: {plan['backend']}; level: {plain_markdown(plan['verified_level'])}."
        yield (
            f"- Conversion: largest difference from the source {plan['relative_error']:.3g} of the largest value, "
            f"allowed {plan['tolerance']:.3g}; compared on {plain_markdown(plan['compared_on'])}."
        )
        yield f"- Share of the computation in an engine: {100 * plan['engine_coverage']:.1f} %."
    verdict = promotion.verdict
    machine = plain_markdown(str(verdict.get("hardware") or "unknown"))
    yield f"- Verdict: blessed on level {plain_markdown(str(verdict.get('level')))}, on the machine {machine}."
    yield from ("", "## Where it came from", "")
    yield f"- Serving folder: sha256:{promotion.digest}"
    if reference := verdict.get("reference_digest"):
        yield f"- Compared with: sha256:{reference}"
    if converted := manifest.get("source"):
        digest = converted.get("digest") or converted.get("fingerprint")
        yield f"- Converted from: {plain_markdown(str(converted.get('path')))}{f', sha256:{digest}' if digest else ''}"
    if run := manifest.get("run"):
        yield f"- Converted in the run {plain_markdown(str(run))}"
    yield f"- Made by tpu2gpu {manifest.get('tpu2gpu')}"
    if versions := manifest.get("versions"):
        yield plain_markdown(f"- Made with {', '.join(f'{name} {version}' for name, version in versions.items())}")
    yield from ("", "## Limits", "")
    yield "- The verdict holds for the examples, the hardware and the budgets of its evaluation."
    if plan.get("verified_level") != "engine_executed":
        yield "- No engine was executed where it was evaluated: latencies on the serving GPU are not known from it."


def _shape(shape: list[int | None] | None) -> str:
    return "any" if shape is None else "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
