"""Casts weights, and tells what that does to their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.graphs.serving_model import ServingModel
from tpu2gpu.precision_caster.casting import CastOptions
from tpu2gpu.precision_caster.policy import compile_keep
from tpu2gpu.progress import Progress
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.casting import CastStatistics, cast_chunks, is_float
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.writer import BundleWriter


def weight_report(model: ServingModel, *, clamp: bool, progress: Progress) -> dict[str, Any]:
    """Looks at every weight that will be cast when the model is written.

    Args:
        model: A model whose variables have their new types already.
        clamp: Mark weights that overflow to be clamped.
        progress: Told which weight is being looked at.

    Returns:
        `weights` (one entry a cast weight), `overflows` (largest magnitude by name), and the sizes before and after.
    """
    held = sorted({**model.variables, **model.constants}.items())
    weights, overflows, size, cast_size = [], {}, 0, 0
    for position, (name, variable) in enumerate(held):
        progress(name, position, len(held))
        if model.bundle is None:
            continue
        entry = model.bundle.entry(variable.key)
        size += entry.size_bytes
        cast_size += entry.count * format.numpy_dtype(variable.dtype).itemsize
        if entry.dtype == variable.dtype:
            continue
        statistics = CastStatistics()
        for _ in cast_chunks(model.bundle.chunks(variable.key), entry.dtype, variable.dtype, statistics):
            pass
        weights.append(_describe(name, entry, variable.dtype, statistics))
        if statistics.overflow_count:
            overflows[name] = statistics.absmax
            variable.clamp = clamp
    return {"weights": weights, "overflows": overflows, "size_bytes": size, "cast_size_bytes": cast_size}


def cast_bundle(bundle: Bundle, prefix: Path, options: CastOptions, progress: Progress) -> dict[str, Any]:
    """Casts a checkpoint tensor by tensor.

    Args:
        bundle: The source.
        prefix: Where to write.
        options: How to cast.
        progress: Told which tensor is being cast.

    Returns:
        As `weight_report`.
    """
    wanted = format.DTYPE_ENUMS[options.to]
    keep = compile_keep(options.keep)
    weights, overflows, size, cast_size = [], {}, 0, 0
    with BundleWriter(prefix) as writer:
        for position, (key, entry) in enumerate(bundle.entries.items()):
            progress(key, position, len(bundle.entries))
            size += entry.size_bytes
            cast_size += entry.size_bytes
            kept = not is_float(entry.dtype) or entry.dtype == wanted or any(it.search(key) for it in keep)
            if kept:
                crc = entry.crc32c if entry.dtype == format.DT_STRING else None
                writer.add(key, entry.dtype, entry.shape, bundle.chunks(key), crc32c=crc)
                continue
            statistics = _statistics(bundle, key, wanted)
            weights.append(_describe(key, entry, wanted, statistics))
            if statistics.overflow_count:
                overflows[key] = statistics.absmax
                if options.on_overflow == "keep":
                    writer.add(key, entry.dtype, entry.shape, bundle.chunks(key))
                    continue
            cast_size += entry.count * format.numpy_dtype(wanted).itemsize - entry.size_bytes
            chunks = cast_chunks(bundle.chunks(key), entry.dtype, wanted, clamp=options.on_overflow == "clamp")
            writer.add(key, wanted, entry.shape, chunks)
    return {"weights": weights, "overflows": overflows, "size_bytes": size, "cast_size_bytes": cast_size}


def _statistics(bundle: Bundle, key: str, wanted: int) -> CastStatistics:
    statistics = CastStatistics()
    for _ in cast_chunks(bundle.chunks(key), bundle.entry(key).dtype, wanted, statistics):
        pass
    return statistics


def _describe(name: str, entry: format.Entry, wanted: int, statistics: CastStatistics) -> dict[str, Any]:
    return {
        "name": name,
        "from": entry.dtype_name,
        "to": format.DTYPE_NAMES[wanted],
        "shape": list(entry.shape),
        **attrs.asdict(statistics),
    }
