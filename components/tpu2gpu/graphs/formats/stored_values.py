"""Values in the files that Keras' archives and HDF5 files hold: those in the file itself, and no more than it holds."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from tpu2gpu.errors import SourceError
from tpu2gpu.limits import is_bomb, limits
from tpu2gpu.process.memory import bounded_memory


def check_unique(where: object, names: Iterable[str]) -> None:
    """Check that no two members of an archive have one name: readers differ in which of them they take.

    Raises:
        SourceError: Two have.
    """
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise SourceError(f"{where}: two members are called {twice[0]!r}", hint="save it again")


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a member of an archive.

    Raises:
        SourceError: It is packed so tightly that it is no file of a model.
        KeyError: There is no such member.
    """
    member = archive.getinfo(name)
    if is_bomb(member.file_size, member.compress_size, limits().constant_mib):
        raise SourceError(
            f"{archive.filename or 'the archive'}: {name} has {member.file_size >> 20} MiB packed into "
            f"{member.compress_size} bytes, at most {limits().constant_mib} MiB are taken",
            hint="--limit constant_mib=NUMBER takes more",
        )
    return archive.read(member)


def walk_hdf5(where: str, root: Any) -> Iterator[tuple[str, Any]]:
    """Yield the data sets of an HDF5 file or group, each once, with their paths in it; links by name are not followed.

    The library's own walk takes a time and a stack that grow with how deep groups lie within each other.

    Raises:
        SourceError: They lie deeper than the limit.
    """
    import h5py

    seen: set[Any] = set()
    waiting = [("", root)]
    while waiting:
        path, item = waiting.pop()
        if item.id in seen:
            continue
        seen.add(item.id)
        if isinstance(item, h5py.Dataset):
            yield path, item
        elif isinstance(item, h5py.Group):
            check_depth(where, path)
            hard = (name for name in item if isinstance(item.get(name, getlink=True), h5py.HardLink))
            waiting += [(f"{path}/{name}".lstrip("/"), item[name]) for name in sorted(hard, reverse=True)]


def bounded_reading(item: Any, more_bytes: int = 0) -> AbstractContextManager[None]:
    """Bound what HDF5 may take while it reads an item: it takes the lengths that stand in a damaged file."""
    return bounded_memory((limits().constant_mib << 20) + 4 * int(item.file.id.get_filesize()) + more_bytes)


def check_unpacked(item: Any) -> None:
    """Read a data set of texts or packed values, which may have any size whatever the file says of them.

    Raises:
        OSError: They are damaged, or have more than they should.
    """
    if item.dtype.hasobject or item.id.get_create_plist().get_nfilters():
        with bounded_reading(item, item.nbytes):
            item[()]


def check_depth(where: str, path: str) -> None:
    """Check how deep a group of an HDF5 file lies within others.

    Raises:
        SourceError: It lies deeper than the limit.
    """
    if path.count("/") > limits().json_depth:
        raise SourceError(
            f"{where}: groups deeper than {limits().json_depth} within each other",
            hint="--limit json_depth=NUMBER takes more",
        )


def check_stored(where: str, item: Any) -> None:
    """Check that the values of an HDF5 data set stand in the file.

    Raises:
        SourceError: The most of them stand nowhere.
    """
    unheld = int(item.size or 0) * item.dtype.itemsize - item.id.get_storage_size()
    if is_bomb(unheld, item.id.get_storage_size(), limits().constant_mib):
        raise SourceError(
            f"{where}: {list(item.shape)} has {unheld >> 20} MiB that the file does not hold, at most "
            f"{limits().constant_mib} are taken",
            hint="--limit constant_mib=NUMBER takes more",
        )
