"""The ledger of a promotion folder: one JSON line for each model that became the incumbent.

A line is written first into the version's own folder, and appended to the ledger once the version is served. What a
killed process did not append is appended by the next one, so that ledger and folder agree again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs
from attrs.validators import deep_iterable, instance_of, optional

from tpu2gpu.errors import ManifestError
from tpu2gpu.plain_json import parse_json
from tpu2gpu.storage.paths import Place
from tpu2gpu.storage.publishing import plain
from tpu2gpu.storage.whole_files import read_plain_text

LEDGER = "promotions.jsonl"
RECORD = "promotion.json"
_TEXT = instance_of(str)


def _check_number(promotion: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{attribute.name}: a number is wanted, not {value!r}")


def _check_name(promotion: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take no name that leads out of the promotion folder: what it names may be removed."""
    if not isinstance(value, str) or value in ("", ".", "..") or "/" in value or "\0" in value:
        raise TypeError(f"{attribute.name}: a name is wanted, not {value!r}")


def _check_time(promotion: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    try:
        aware = datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        aware = False
    if not aware:
        raise TypeError(f"{attribute.name}: a time with its zone is wanted, not {value!r}")


def _as_tuple(names: Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


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

    model: str = attrs.field(validator=_check_name)
    version: int = attrs.field(validator=_check_number)
    action: str = attrs.field(validator=_TEXT)
    digest: str = attrs.field(validator=_TEXT)
    run: str = attrs.field(validator=_TEXT)
    at: str = attrs.field(validator=_check_time)
    replaces: int | None = attrs.field(validator=optional(_check_number))
    restores: int | None = attrs.field(default=None, validator=optional(_check_number))
    layout: str = attrs.field(validator=_TEXT)
    reason: str = attrs.field(validator=_TEXT)
    verdict: dict[str, Any] = attrs.field(factory=dict, validator=instance_of(dict))
    models: Sequence[str] = attrs.field(default=(), converter=_as_tuple, validator=deep_iterable(_check_name))

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
        return _parse(read_plain_text(path))
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
        text = read_plain_text(folder / LEDGER)
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise ManifestError(f"{folder}: not a folder", hint="give the folder that models are promoted into") from error
    except ValueError as error:
        raise ManifestError(f"{folder / LEDGER}: no ledger ({error})") from error
    whole = text[: text.rfind("\n") + 1]
    promotions = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            promotions.append(_parse(line))
        except ValueError as error:
            raise ManifestError(f"{folder / LEDGER}: line {number} is damaged ({error})") from error
    return promotions


def _parse(text: str) -> Promotion:
    data = parse_json(text)
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    try:
        return Promotion(**data)
    except TypeError as error:
        raise ValueError(str(error.args[0] if error.args else error)) from error
