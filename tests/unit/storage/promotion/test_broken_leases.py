"""What lies where a lease should, and is none, is named; names of others are passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from tpu2gpu.errors import ManifestError, PromotionRefusedError
from tpu2gpu.storage.paths import RemotePath
from tpu2gpu.storage.promotion.lease import Lease

PLACE = "/leases/.promotion.lock."
TOLD = {"holder": "process 7 on host", "until": "2020-01-01T00:00:00+00:00", "released": False}
BROKEN = {
    "no JSON": b"{",
    "no text": b"\xff",
    "a list": b"[7]",
    "nested without end": b"[" * 100_000,
    "without its end": json.dumps({"holder": "x"}).encode(),
    "an end that is a list": json.dumps(TOLD | {"until": []}).encode(),
    "an end that is no time": json.dumps(TOLD | {"until": "tomorrow"}).encode(),
    "an end before all time": json.dumps(TOLD | {"until": "0001-01-01T00:00:00+23:59"}).encode(),
}


@pytest.fixture
def store() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/leases", recursive=True)


def take() -> int:
    with Lease(RemotePath("memory://leases"), seconds=5).held() as lease:
        return lease._number


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_lease_is_named(name: str, store: Any) -> None:
    store.pipe(f"{PLACE}00000003", BROKEN[name])
    with pytest.raises(ManifestError, match=r"\.promotion\.lock\.00000003: not a lease"):
        take()


def test_an_end_without_a_zone_is_one_of_this_machine(store: Any) -> None:
    store.pipe(f"{PLACE}00000003", json.dumps(TOLD | {"until": "9000-01-01T00:00:00"}).encode())
    with pytest.raises(PromotionRefusedError, match="process 7 on host, until 9000-01-01"):
        take()


def test_objects_of_other_names_are_no_leases(store: Any) -> None:
    for name in ("x", "", "-1", "\N{SUPERSCRIPT TWO}", "9" * 5000, "00000008.tmp"):
        store.pipe(f"{PLACE}{name}", b"{")
    store.pipe(f"{PLACE}00000003", json.dumps(TOLD).encode())
    assert take() == 4
