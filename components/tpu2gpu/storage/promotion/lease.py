"""The lock of a promotion folder in an object store: a lease that is renewed while its holder lives.

    <folder>/.promotion.lock.<number>     who holds it, and until when; the largest number counts

Each holder creates the number after the last, which the store grants to one alone where it has conditional writes
(`If-None-Match: *`). Clocks of the machines that promote must agree within a few seconds.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

from tpu2gpu.errors import EnvironmentLacksError, ManifestError, PromotionRefusedError, Tpu2GpuError
from tpu2gpu.plain_json import parse_json
from tpu2gpu.storage.paths import RemotePath

LEASE_S = 60.0
_PREFIX = ".promotion.lock."
_DIGITS = 8
_HINT = "wait for its end, and try again if its model is not the one that you want"


class Lease:
    """The lease of a promotion folder.

    Args:
        folder: The folder.
        seconds: How long it outlives a holder that was killed.
    """

    def __init__(self, folder: RemotePath, seconds: float = LEASE_S) -> None:
        self._folder = folder
        self._seconds = seconds
        self._number = 0
        self._until = _now()

    @contextmanager
    def held(self) -> Iterator[Lease]:
        """Hold it while the block runs.

        Raises:
            PromotionRefusedError: Another process holds it.
            ManifestError: What the store holds in its place is no lease.
            EnvironmentLacksError: The folder cannot be written.
        """
        self._take()
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(ended,), daemon=True)
        renewing.start()
        try:
            yield self
        finally:
            ended.set()
            renewing.join()
            self._write(released=True)

    def check(self) -> None:
        """Check that this process still holds it.

        Raises:
            PromotionRefusedError: It could not be renewed in time, or another process has taken it.
        """
        if _now() > self._until or self._newest() != self._number:
            raise PromotionRefusedError(
                f"{self._folder}: the lease on it ended before the promotion did",
                hint="check the connection to the store, and promote again",
            )

    def _take(self) -> None:
        newest = self._newest()
        if newest:
            told = self._read(newest)
            if not told.get("released") and _now() < told["until"]:
                raise self._refusal(f"{told['holder']}, until {told['until'].isoformat()}")
        self._number = newest + 1
        self._until = _now() + timedelta(seconds=self._seconds)
        try:
            self._path(self._number).create(self._content())
        except FileExistsError as error:
            raise self._refusal("by a process that was faster") from error
        self._warn_without_conditional_writes()
        if self._newest() != self._number:  # this process was asleep since it looked
            self._path(self._number).unlink()
            raise self._refusal("by a process that was faster")
        for number in range(max(1, self._number - 3), self._number):
            self._path(number).unlink()

    def _warn_without_conditional_writes(self) -> None:
        atomic = self._folder.creates_atomically
        if atomic:
            try:
                self._path(self._number).create(self._content())
            except FileExistsError:
                return
        logging.getLogger("tpu2gpu").warning(
            "%s: this store has no conditional writes: of two promotions in the same moment neither would be refused",
            self._folder,
        )

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds / 4):
            until = _now() + timedelta(seconds=self._seconds)
            try:
                if self._newest() == self._number:
                    self._path(self._number).write_bytes(self._content(until=until))
                    self._until = until
            except Tpu2GpuError as error:
                logging.getLogger("tpu2gpu").warning("%s: the lease was not renewed: %s", self._folder, error)

    def _write(self, *, released: bool) -> None:
        try:
            if self._newest() == self._number:
                self._path(self._number).write_bytes(self._content(released=released))
        except EnvironmentLacksError as error:
            logging.getLogger("tpu2gpu").warning("%s: the lease was not given back: %s", self._folder, error)

    def _content(self, *, until: datetime | None = None, released: bool = False) -> bytes:
        told = {
            "holder": f"process {os.getpid()} on {os.uname().nodename}",
            "until": (until or self._until).isoformat(timespec="milliseconds"),
            "released": released,
        }
        return json.dumps(told).encode()

    def _newest(self) -> int:
        try:
            names = [path.name.removeprefix(_PREFIX) for path in self._folder.glob(f"{_PREFIX}*")]
        except FileNotFoundError:
            names = []
        return max((int(name) for name in names if name.isdecimal() and len(name) == _DIGITS), default=0)

    def _read(self, number: int) -> dict[str, Any]:
        try:
            told = dict(parse_json(self._path(number).read_bytes()))
            told["until"] = datetime.fromisoformat(str(told["until"])).astimezone(timezone.utc)
            return {"holder": "unknown"} | told
        except FileNotFoundError:  # its holder's successor took it away meanwhile
            raise self._refusal("by a process that was faster") from None
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ManifestError(
                f"{self._path(number)}: not a lease ({error!r})", hint="remove it where no promotion is under way"
            ) from error

    def _path(self, number: int) -> RemotePath:
        return self._folder / f"{_PREFIX}{number:0{_DIGITS}d}"

    def _refusal(self, holder: str) -> PromotionRefusedError:
        return PromotionRefusedError(f"{self._folder}: another promotion is under way ({holder})", hint=_HINT)


def _now() -> datetime:
    return datetime.now(timezone.utc)
