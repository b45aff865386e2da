"""Cast a bundle into another on several threads, in bounded memory, with the same bytes whatever their number.

Every tensor's place in the output is known before anything is cast: sizes follow from shapes and types. So threads
take chunks of tensors, of the same tensor too, and write each where it belongs; checksums and statistics of the
chunks are put together in the order of the chunks.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import attrs
import google_crc32c
import numpy as np

from tpu2gpu.errors import CheckpointError, SourceError, UnsupportedError
from tpu2gpu.progress import Progress, silent
from tpu2gpu.storage.paths import is_remote
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.casting import Array, Scratch, cast_values, is_float
from tpu2gpu.tensorbundle.checkpoint import CHUNK_BYTES
from tpu2gpu.tensorbundle.checksum import combine
from tpu2gpu.tensorbundle.reader import Bundle, became_shorter
from tpu2gpu.tensorbundle.slices import Box
from tpu2gpu.tensorbundle.statistics import CastStatistics

SHARD_BYTES = 256 << 20
PIECE_BYTES = 512 << 10  # read, cast, checked and written at once: little enough to stay in the cache on the way


@attrs.frozen
class Wanted:
    """One tensor of the output.

    Attributes:
        key: Its key in the output.
        source_key: Its key in the source.
        dtype: DataType number that it is to have.
        clamp: Replace finite values that the type cannot hold by the largest that it can.
        box: The part of the source's tensor that it is; None for all of it.
    """

    key: str
    source_key: str
    dtype: int
    clamp: bool = False
    box: Box | None = None


@attrs.frozen
class PlannedTensor:
    """One tensor, where it comes from and where it goes.

    Attributes:
        wanted: What is asked for.
        source: Where it lies in the source; for what is put together of parts, its type, shape and size only.
        in_parts: Whether it is put together of parts, or cut out of one.
        place: Where it will lie in the output; the checksum is still 0.
    """

    wanted: Wanted
    source: format.Entry
    in_parts: bool
    place: format.Entry


@attrs.frozen
class CastPlan:
    """What to write where.

    Attributes:
        shards: For each data file of the output its tensors, in the order of their bytes.
        shard_bytes: Size of each data file.
    """

    shards: tuple[tuple[PlannedTensor, ...], ...]
    shard_bytes: tuple[int, ...]


@attrs.frozen
class CastTensor:
    """One tensor that has been written.

    Attributes:
        key: Its key in the output.
        entry: What the index is to say of it.
        statistics: What the cast did; None where the bytes were copied.
    """

    key: str
    entry: format.Entry
    statistics: CastStatistics | None


def plan_cast(bundle: Bundle, wanted: Iterable[Wanted], shard_bytes: int = SHARD_BYTES) -> CastPlan:
    """Lay out the output: as many data files as its size asks for, of nearly equal size.

    Args:
        bundle: The source.
        wanted: The tensors of the output.
        shard_bytes: Size that a data file should have; a tensor is never cut.

    Raises:
        CheckpointError: A tensor is not in the source.
        UnsupportedError: A tensor is not of a floating type but should be cast.
    """
    sized = []
    for it in sorted(wanted, key=lambda it: it.key):
        source, in_parts = _source(bundle, it)
        sized.append((it, source, in_parts, _cast_bytes(bundle, it, source)))
    count = max(1, -(-sum(it[3] for it in sized) // shard_bytes))
    filled = [0] * min(count, max(1, len(sized)))
    members: list[list[_Sized]] = [[] for _ in filled]
    for tensor in sorted(sized, key=lambda it: (-it[3], it[0].key)):  # the largest first, to the emptiest file
        shard = filled.index(min(filled))
        filled[shard] += tensor[3]
        members[shard].append(tensor)
    return CastPlan(tuple(_lay_out(shard, tensors) for shard, tensors in enumerate(members)), tuple(filled))


_Sized = tuple[Wanted, format.Entry, bool, int]


def _lay_out(shard: int, tensors: list[_Sized]) -> tuple[PlannedTensor, ...]:
    planned, offset = [], 0
    for wanted, source, in_parts, size in sorted(tensors, key=lambda it: it[0].key):
        place = format.Entry(wanted.dtype, source.shape, shard, offset, size)
        planned.append(PlannedTensor(wanted, source, in_parts, place))
        offset += size
    return tuple(planned)


def _source(bundle: Bundle, wanted: Wanted) -> tuple[format.Entry, bool]:
    """Look up what the source holds, and whether parts must be put together for it."""
    entry = bundle.entry(wanted.source_key)
    if wanted.box is None and not entry.slices:
        return entry, False
    shape = entry.shape if wanted.box is None else wanted.box.sizes
    size = math.prod(shape) * format.numpy_dtype(entry.dtype).itemsize
    return format.Entry(entry.dtype, shape, size_bytes=size), True


def _cast_bytes(bundle: Bundle, wanted: Wanted, source: format.Entry) -> int:
    if source.dtype == wanted.dtype:
        return source.size_bytes
    if not (is_float(source.dtype) and is_float(wanted.dtype)):
        wish = format.DTYPE_NAMES.get(wanted.dtype, str(wanted.dtype))
        raise UnsupportedError(f"{bundle.prefix}: {wanted.source_key!r}: no cast from {source.dtype_name} to {wish}")
    return source.count * format.numpy_dtype(wanted.dtype).itemsize


def cast_shard(
    bundle: Bundle,
    plan: CastPlan,
    shard: int,
    path: str | os.PathLike[str],
    *,
    threads: int = 1,
    thorough: bool = True,
    progress: Progress = silent,
) -> list[CastTensor]:
    """Write one data file of the output.

    Args:
        bundle: The source.
        plan: What to write where.
        shard: Which of the plan's data files.
        path: The file to write, replaced if it is there.
        threads: How many threads cast.
        thorough: Gather all statistics; otherwise extremes and overflows only.
        progress: Told of each tensor that is done.

    Raises:
        CheckpointError: The checksums of tensors do not match their bytes; all are listed.
    """
    tensors = plan.shards[shard]
    with ExitStack() as stack:
        sources = _open_sources(bundle, tensors, stack)
        out = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        stack.callback(os.close, out)
        os.truncate(out, plan.shard_bytes[shard])
        workers = _Workers(bundle, tensors, sources, out, thorough)
        remote = is_remote(bundle.prefix)
        parts = [(number, *part) for number, it in enumerate(tensors) for part in _parts(it, whole=remote)]
        with ThreadPoolExecutor(1 if remote else threads, thread_name_prefix="cast") as pool:
            done = pool.map(lambda part: workers.cast(*part), parts)
            results = list(_put_together(bundle, tensors, parts, done, progress))
    wrong = {tensor.key for tensor in results if tensor.entry.crc32c < 0}
    damaged = [f"{it.wanted.key}: in {bundle.shard_name(it.source.shard)}" for it in tensors if it.wanted.key in wrong]
    if damaged:
        raise CheckpointError(
            f"{bundle.prefix}: the checksums of {len(damaged)} tensors do not match their bytes",
            details=damaged,
            hint="the files are damaged; fetch them again",
        )
    return results


def flush(path: str | os.PathLike[str]) -> None:
    """Wait until a file's bytes are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(file)
    finally:
        os.close(file)


def _open_sources(bundle: Bundle, tensors: Sequence[PlannedTensor], stack: ExitStack) -> dict[int, int]:
    sources: dict[int, int] = {}
    if is_remote(bundle.prefix):
        return sources
    for shard in sorted({it.source.shard for it in tensors if it.source.size_bytes and not it.in_parts}):
        path = bundle.shard_name(shard)
        try:
            sources[shard] = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
        stack.callback(os.close, sources[shard])
    return sources


def _parts(tensor: PlannedTensor, *, whole: bool) -> Iterator[tuple[int, int]]:
    """Cut a tensor into ranges of stored units; neither side of a range exceeds the size of a chunk.

    What must be read in order is one range, from 0 to -1.
    """
    if whole or tensor.in_parts or tensor.source.dtype == format.DT_STRING:
        yield 0, -1
        return
    copied = tensor.source.dtype == tensor.place.dtype
    count = tensor.source.size_bytes if copied else tensor.source.count
    step = CHUNK_BYTES // _widest_bytes(tensor)
    yield from ((start, min(start + step, count)) for start in range(0, count, step))


def _widest_bytes(tensor: PlannedTensor) -> int:
    """Return the size of a stored unit on its way: a byte that is copied; of a number that is cast the widest form."""
    types = {tensor.source.dtype, tensor.place.dtype}
    if len(types) == 1:
        return 1
    return max(4, *(format.numpy_dtype(it).itemsize for it in types))  # 16-bit types meet as float32


@attrs.frozen
class _Part:
    """What came of one range: checksums before (None when it is known to be right) and after, and bytes."""

    crc_in: int | None
    crc_out: int
    bytes_in: int
    bytes_out: int
    statistics: CastStatistics | None


_BYTE = np.dtype(np.uint8)


class _ThreadScratch(threading.local):
    """Memory that each thread has of its own."""

    def __init__(self) -> None:
        self.scratch = Scratch()


class _Workers:
    """The state that the worker pool of one shard shares."""

    def __init__(
        self, bundle: Bundle, tensors: Sequence[PlannedTensor], sources: dict[int, int], out: int, thorough: bool
    ) -> None:
        self._bundle, self._reading = bundle, threading.Lock()
        self._tensors, self._sources, self._out, self._thorough = tensors, sources, out, thorough
        self._local = _ThreadScratch()

    def cast(self, number: int, start: int, stop: int) -> _Part:
        """Read a range, cast it and write it to its place."""
        tensor = self._tensors[number]
        if stop < 0:
            with self._reading:
                return self._cast_in_order(tensor)
        source, place = tensor.source, tensor.place
        cast = source.dtype != place.dtype
        before_type, after_type = (format.numpy_dtype(it.dtype) if cast else _BYTE for it in (source, place))
        step = PIECE_BYTES // _widest_bytes(tensor)
        crc_in, crc_out, statistics = 0, 0, CastStatistics() if cast else None
        for first in range(start, stop, step):
            last = min(first + step, stop)
            raw = self._read(tensor, first * before_type.itemsize, last * before_type.itemsize)
            crc_in = google_crc32c.extend(crc_in, raw)
            result = raw
            if statistics is not None:
                after, found = self._cast(raw.view(before_type), after_type, tensor.wanted)
                statistics.merge(found)
                result = after.view(np.uint8)
                crc_out = google_crc32c.extend(crc_out, result)
            self._write(result, place.offset + first * after_type.itemsize)
        count = stop - start
        return _Part(
            crc_in, crc_out if cast else crc_in, count * before_type.itemsize, count * after_type.itemsize, statistics
        )

    def _cast_in_order(self, tensor: PlannedTensor) -> _Part:
        """Cast a whole tensor piece by piece; the bundle checks its checksums."""
        wanted, source, place = tensor.wanted, tensor.source, tensor.place
        cast = source.dtype != place.dtype
        crc, size, statistics = 0, 0, CastStatistics() if cast else None
        if source.dtype == format.DT_STRING and not self._are_sound_strings(wanted.source_key):
            return _Part(0, 0, 0, 0, None)
        for chunk in self._bundle.chunks(wanted.source_key, CHUNK_BYTES // 4, box=wanted.box):
            result = np.frombuffer(chunk, np.uint8)
            if statistics is not None:
                before = np.frombuffer(chunk, format.numpy_dtype(source.dtype))
                after, found = self._cast(before, format.numpy_dtype(place.dtype), wanted)
                statistics.merge(found)
                result = after.view(np.uint8)
            crc = google_crc32c.extend(crc, result)
            self._write(result, place.offset + size)
            size += result.nbytes
        return _Part(None, crc, 0, size, statistics)

    def _are_sound_strings(self, key: str) -> bool:
        """Read strings whole: their checksum covers their lengths in another form than they are stored in."""
        try:
            self._bundle.read(key)
        except CheckpointError:
            return False
        return True

    def _cast(self, before: Array, target: np.dtype[Any], wanted: Wanted) -> tuple[Array, CastStatistics]:
        scratch = self._local.scratch
        return cast_values(before, target, clamp=wanted.clamp, thorough=self._thorough, scratch=scratch)

    def _read(self, tensor: PlannedTensor, start: int, stop: int) -> Array:
        buffer = self._local.scratch.array("read", stop - start, np.uint8)
        filled, source = 0, tensor.source
        while filled < len(buffer):
            count = os.preadv(self._sources[source.shard], [buffer[filled:].data], source.offset + start + filled)
            if count == 0:
                raise became_shorter(self._bundle.shard_name(source.shard), tensor.wanted.source_key)
            filled += count
        return buffer

    def _write(self, data: Array, offset: int) -> None:
        rest = data.data
        while rest:
            count = os.pwrite(self._out, rest, offset)
            rest, offset = rest[count:], offset + count


def _put_together(
    bundle: Bundle,
    tensors: Sequence[PlannedTensor],
    parts: Sequence[tuple[int, int, int]],
    done: Iterator[_Part],
    progress: Progress,
) -> Iterator[CastTensor]:
    """Make each tensor's entry of its parts, in order; a wrong checksum is marked by -1."""
    counts = [0] * len(tensors)
    for number, _, _ in parts:
        counts[number] += 1
    for number, tensor in enumerate(tensors):
        crc_in = crc_out = 0
        sound = False
        cast = tensor.source.dtype != tensor.place.dtype
        statistics = CastStatistics() if cast else None
        for _ in range(counts[number]):
            part = next(done)
            crc_out = combine(crc_out, part.crc_out, part.bytes_out)
            if part.crc_in is None:
                sound = True
            else:
                crc_in = combine(crc_in, part.crc_in, part.bytes_in)
            if statistics is not None and part.statistics is not None:
                statistics.merge(part.statistics)
        stored = tensor.source.crc32c
        if tensor.source.dtype == format.DT_STRING:  # its checksum covers its lengths in another form
            checksum = stored if sound else -1
        else:
            checksum = format.mask(crc_out) if sound or format.mask(crc_in) == stored else -1
        progress("casting the weights", number + 1, len(tensors))
        yield CastTensor(tensor.wanted.key, attrs.evolve(tensor.place, crc32c=checksum), statistics)
