"""The ledger of a promotion folder: one JSON line for each model that became the incumbent.

A line is written first into the version's own folder, and appended to the ledger once the version is served. What a
killed process did not append is appended by the next one, so that ledger and folder agree again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs

from tpu2gpu.errors import ManifestError
from tpu2gpu.storage.paths import Place
from tpu2gpu.storage.publishing import plain

LEDGER = "promotions.jsonl"
RECORD = "promotion.json"


def _as_tuple(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names)


@attrs.frozen(kw_only=True)
class Promotion:
    """One line of the ledger.

    Attributes:
        model: The model's name.
        version: The number under which it is served.
        action: `promote`, `rollback`, or `confirm` where a run found its model to be served already.
        digest: The digest of the serving folder's manifest.
        run: The run that promoted it; empty outside a pipeline.
        at: When, in UTC.
        replaces: The version that was the incumbent before; None for the first.
        restores: The version that a rollback brought back.
        layout: The layout of the version's folder.
        reason: Why: the verdict in a sentence, or what was given for a rollback.
        verdict: The verdict on which it was promoted: level, hardware, digests.
        models: Models of the server that belong to this version beside the named one: the parts of a split model.
    """

    model: str
    version: int
    action: str
    digest: str
    run: str
    at: str
    replaces: int | None
    restores: int | None = None
    layout: str
    reason: str
    verdict: dict[str, Any] = attrs.field(factory=dict)
    models: Sequence[str] = attrs.field(default=(), converter=_as_tuple)

    def to_line(self) -> str:
        """Return the line of the ledger, without its end."""
        return json.dumps(plain(self), sort_keys=True, ensure_ascii=False)


def read_record(folder: Place) -> Promotion | None:
    """Read what a version's folder says of its promotion; None where it says nothing.

    Raises:
        ManifestError: It is damaged.
    """
    path = folder / RECORD
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ManifestError(f"{path}: not a record of a promotion ({error})") from error


def read_ledger(folder: Place) -> list[Promotion]:
    """Read the ledger of a promotion folder, oldest first; a last line that was cut off is left out.

    Raises:
        ManifestError: A line is damaged.
    """
    try:
        text = (folder / LEDGER).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    promotions = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            promotions.append(_parse(line))
        except ValueError as error:
            raise ManifestError(f"{folder / LEDGER}: line {number} is damaged ({error})") from error
    return promotions


def _parse(text: str) -> Promotion:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    try:
        return Promotion(**data)
    except TypeError as error:
        raise ValueError(str(error)) from error
