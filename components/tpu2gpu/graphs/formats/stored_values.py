"""Values in the files that Keras' archives and HDF5 files hold: those in the file itself, and no more than it holds."""

from __future__ import annotations

import zipfile
from typing import Any

from tpu2gpu.errors import SourceError
from tpu2gpu.limits import limits


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a member of an archive.

    Raises:
        SourceError: It is packed so tightly that it is no file of a model.
        KeyError: There is no such member.
    """
    member = archive.getinfo(name)
    most = limits().constant_mib << 20
    if member.file_size > most and member.file_size > 100 * member.compress_size:
        raise SourceError(
            f"{archive.filename or 'the archive'}: {name} has {member.file_size >> 20} MiB packed into "
            f"{member.compress_size} bytes, at most {limits().constant_mib} MiB are taken",
            hint="--limit constant_mib=NUMBER takes more",
        )
    return archive.read(member)


def check_stored(where: str, item: Any) -> None:
    """Check that the values of an HDF5 data set stand in the file.

    Raises:
        SourceError: The most of them stand nowhere.
    """
    unheld = int(item.size or 0) * item.dtype.itemsize - item.id.get_storage_size()
    if unheld > limits().constant_mib << 20 and unheld > 100 * item.id.get_storage_size():
        raise SourceError(
            f"{where}: {list(item.shape)} has {unheld >> 20} MiB that the file does not hold, at most "
            f"{limits().constant_mib} are taken",
            hint="--limit constant_mib=NUMBER takes more",
        )
