"""The sweep's result as tables in a page beside the converter, one a family."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from tests.conformance import families
from tests.conformance.case import Case
from tests.conformance.judge import EXACT, NO_KERNEL, REFUSED, SPLIT_OFF, WITHIN, Verdict, judge

PAGE = Path(__file__).parents[2] / "components/tpu2gpu/trt_converter/CONFORMANCE.md"
FAMILIES = tuple(module.name for module in pkgutil.iter_modules(families.__path__))


def cases_of(family: str) -> Iterator[Case]:
    """Return a family's cases."""
    yield from importlib.import_module(f"tests.conformance.families.{family}").cases()


def swept(cases: Sequence[Case]) -> list[tuple[Case, Verdict]]:
    """Judge cases, but for those that TensorFlow itself does not run."""
    found = [(case, judge(case)) for case in cases]
    return [(case, verdict) for case, verdict in found if verdict.kind != NO_KERNEL]


def table_of(found: Sequence[tuple[Case, Verdict]]) -> str:
    """Return a table: a row for each operation, and one for all."""
    rows = ["| Operation | Combinations | Exact | Within | Split off | Why split off |", "|---|--:|--:|--:|--:|---|"]
    for op in sorted({case.op for case, _ in found}):
        of_op = [(case, verdict) for case, verdict in found if case.op == op]
        why = Counter(_shown(verdict) for _, verdict in of_op if verdict.kind in (SPLIT_OFF, REFUSED))
        beside = sorted({f"`{each}`" for case, _ in of_op for each in case.beside})
        name = f"`{op}`" + (f", with {', '.join(beside)}" if beside else "")
        reasons = "; ".join(reason for reason, _ in why.most_common(2))
        rows.append(_row(name, [verdict for _, verdict in of_op], reasons))
    return "\n".join([*rows, _row("all", [verdict for _, verdict in found], "")])


def _row(name: str, verdicts: Sequence[Verdict], reasons: str) -> str:
    counts = Counter(verdict.kind for verdict in verdicts)
    split = counts[SPLIT_OFF] + counts[REFUSED]
    if others := len(verdicts) - counts[EXACT] - counts[WITHIN] - split:
        reasons = f"**{others} answer otherwise** {reasons}"
    return f"| {name} | {len(verdicts)} | {counts[EXACT]} | {counts[WITHIN]} | {split} | {reasons} |"


def _shown(verdict: Verdict) -> str:
    """Return a reason without what differs from case to case."""
    if verdict.kind == SPLIT_OFF:
        return verdict.why
    if kernel := re.search(r"implementation for (\w+)\(", verdict.why):
        return f"ONNX Runtime has no `{kernel.group(1)}` for the type"
    if "Type Error" in verdict.why:
        return "ONNX does not take the type"
    if "cannot be converted" in verdict.why or "could not convert" in verdict.why or "tf2onnx cannot" in verdict.why:
        return "tf2onnx does not convert it so"
    return "ONNX Runtime refuses tf2onnx's form of it"


def write(family: str, table: str) -> None:
    """Put a family's table in the page, in place of the one that is there."""
    page = PAGE.read_text(encoding="utf-8")
    start, end = _marks(family)
    if start not in page:
        page = f"{page}\n## {family.capitalize().replace('_', ' ')}\n\n{start}\n{end}\n"
    before, _, rest = page.partition(start)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{start}\n{table}\n{end}{after}", encoding="utf-8")


def written(family: str) -> str:
    """Return a family's table as the page has it."""
    start, end = _marks(family)
    return PAGE.read_text(encoding="utf-8").partition(start)[2].partition(end)[0].strip()


def counts_of(table: str) -> dict[str, tuple[int, int, int]]:
    """Return by operation how many combinations there are, how many answer as TensorFlow, and how many are split off.

    Which are exact and which within the tolerance depends on the processor.
    """
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {row[0]: (int(row[1]), int(row[2]) + int(row[3]), int(row[4])) for row in rows}


def versions() -> str:
    """Return what is swept, and against what."""
    names = {"TensorFlow": "tensorflow", "tf2onnx": "tf2onnx", "ONNX Runtime": "onnxruntime"}
    return ", ".join(f"{name} {metadata.version(module)}" for name, module in names.items())


def _marks(family: str) -> tuple[str, str]:
    return f"<!-- conformance: {family} -->", f"<!-- end: {family} -->"
