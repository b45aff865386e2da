"""NumPy's files, held against what they say: a header may promise values that do not follow, a member may be a bomb."""

from __future__ import annotations

import math
import os
import zipfile
from typing import IO, Any

from numpy.lib import format

from tpu2gpu.errors import SourceError
from tpu2gpu.graphs.formats.stored_values import check_unique
from tpu2gpu.limits import is_bomb, limits
from tpu2gpu.tensorbundle.format import wrong_sizes

_READ = {(1, 0): format.read_array_header_1_0, (2, 0): format.read_array_header_2_0}
_KINDS = "biufcSUV"


def check_arrays(where: str, file: IO[bytes]) -> None:
    """Check that the arrays of a `.npy` or `.npz` file are plain, and stand in the file; it is left at its start.

    Raises:
        SourceError: They do not, or two of them have one name.
        ValueError: A header is damaged, or of a version that only arrays of records have.
        zipfile.BadZipFile: The archive is damaged.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            check_unique(where, (it.filename.removesuffix(".npy") for it in members))  # as NumPy calls them
            _check_packed(where, sum(it.file_size for it in members), size)
            for member in members:
                with archive.open(member) as stream:
                    _check_array(f"{where}, {member.filename.removesuffix('.npy')}", stream, member.file_size)
    else:
        file.seek(0)
        _check_array(where, file, size)
    file.seek(0)


def _check_packed(where: str, unpacked: int, size: int) -> None:
    most = 4 * limits().constant_mib
    if is_bomb(unpacked, size, most):
        raise SourceError(
            f"{where}: {unpacked >> 20} MiB packed into {size} bytes, at most {most} MiB are taken",
            hint=f"--limit constant_mib={(unpacked >> 22) + 1} takes it",
        )


def _check_array(where: str, stream: IO[bytes], size: int) -> None:
    version = format.read_magic(stream)  # type: ignore[no-untyped-call, unused-ignore]
    if version not in _READ:
        raise ValueError(f"version {version} of NumPy's format")
    shape, _, dtype = _READ[version](stream)  # type: ignore[no-untyped-call, unused-ignore]
    _check_dtype(where, dtype)
    wanted, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if wrong := wrong_sizes(shape):
        raise SourceError(f"{where}: its shape is {list(shape)}: {wrong}")
    if wanted > held:
        raise SourceError(
            f"{where}: {dtype.name} {list(shape)} takes {wanted} bytes, the file holds {held}", hint="fetch it again"
        )
    if not dtype.itemsize and math.prod(shape) > size:  # empty strings without end
        raise SourceError(f"{where}: {list(shape)} strings of no length")


def _check_dtype(where: str, dtype: Any) -> None:
    if dtype.hasobject:
        raise SourceError(f"{where}: holds Python objects", hint="write it with numpy.savez, of numbers and strings")
    if dtype.kind not in _KINDS or dtype.names or dtype.subdtype:
        raise SourceError(f"{where}: holds {dtype}, neither numbers nor strings", hint="write it with numpy.savez")
