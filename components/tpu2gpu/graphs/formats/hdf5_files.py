"""HDF5 files of strangers, read first by a process of its own: the library never ends with some damaged ones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

from tpu2gpu.errors import SourceError, WorkerError, foreign_errors
from tpu2gpu.graphs.formats.stored_values import (
    bounded_reading,
    check_depth,
    check_stored,
    check_unpacked,
    read_member,
)
from tpu2gpu.process.worker import Worker
from tpu2gpu.storage.paths import Place, fetched, place

_START_S, _BYTES_PER_S = 60.0, 10 << 20


def check_hdf5(path: Place, member: str = "") -> dict[str, str]:
    """Have all attributes, texts and packed values of an HDF5 file read in a process of its own, once for each state.

    Args:
        path: The file, or the archive that holds it.
        member: Its name in the archive.

    Returns:
        The texts that are attributes of its root.

    Raises:
        SourceError: It is damaged, or takes values from other files, or more memory or time than it may.
    """
    with fetched(path) as file:
        state = file.stat()
        return _check(str(file), member, str(path), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=16)
def _check(file: str, member: str, name: str, size_bytes: int, time_ns: int) -> dict[str, str]:
    timeout_s = _START_S + size_bytes / _BYTES_PER_S
    try:
        reader = f"{__name__}:Reader"
        with Worker(reader, name="the reader of HDF5", preload=("h5py", __name__), timeout_s=timeout_s) as worker:
            texts: dict[str, str] = worker.call("read", timeout_s=timeout_s, file=file, member=member, name=name)
            return texts
    except WorkerError as error:
        raise SourceError(f"{name}: damaged (HDF5 cannot read it: {error.message})", hint="fetch it again") from error


class Reader:
    """Reads in the process of its own."""

    def read(self, *, file: str, member: str, name: str) -> dict[str, str]:
        """Read a file; the arguments and the result are those of `check_hdf5`."""
        import h5py

        with foreign_errors(SourceError, f"{name}: damaged", hint="fetch it again"), ExitStack() as stack:
            stored = stack.enter_context(place(file).open("rb"))
            if member:
                stored = io.BytesIO(read_member(zipfile.ZipFile(stored), member))
            opened = stack.enter_context(h5py.File(stored, "r"))
            with bounded_reading(opened):
                found = list(_data_sets(name, opened))
                texts = {key: _text(value) for key, value in opened.attrs.items()}
            for item in found:
                check_stored(f"{name}: {item.name}", item)
                check_unpacked(item)
            return texts


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _data_sets(name: str, file: Any) -> Iterator[Any]:
    """Yield all data sets, and read all attributes."""
    import h5py

    waiting = [file]
    seen = set()
    while waiting:
        group = waiting.pop()
        check_depth(name, group.name)
        list(group.attrs.values())
        for key in group:
            link = group.get(key, getlink=True)
            where = f"{name}: {group.name.rstrip('/')}/{key}"
            if isinstance(link, h5py.ExternalLink):
                raise SourceError(f"{where}: lies in another file, {link.filename}")
            item = group.get(key)
            if isinstance(item, h5py.Group) and item.id not in seen:
                seen.add(item.id)
                waiting.append(item)
            elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise SourceError(f"{where}: lies in another file")
            elif isinstance(item, h5py.Dataset):
                list(item.attrs.values())
                yield item
