"""Casts weights from bundle to bundle, and tells what that did to their values."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.graphs.formats.checkpoint_tensors import kind_of_tensor, object_names
from tpu2gpu.hardware.host import available_cores
from tpu2gpu.precision_caster.rules import KEEP, compile_rules, decide, without_finding
from tpu2gpu.progress import Progress
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.casting import is_float
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.statistics import CastStatistics
from tpu2gpu.tensorbundle.streaming import (
    CastPlan,
    CastTensor,
    Wanted,
    cast_shard,
    flush,
    plan_cast,
)
from tpu2gpu.tensorbundle.writer import write_index

if TYPE_CHECKING:
    from tpu2gpu.precision_caster.options import CastOptions


@attrs.frozen
class CastWeights:
    """The weights after the cast.

    Attributes:
        report: `weights` (one entry a cast tensor), `size_bytes` and `cast_size_bytes`, and who cast which shard.
        statistics: What the cast did to each tensor that was cast, by name.
    """

    report: dict[str, Any]
    statistics: dict[str, CastStatistics]


def choose_types(bundle: Bundle, options: CastOptions, unfit: Mapping[str, str]) -> tuple[list[Wanted], dict[str, str]]:
    """Decide about each tensor of a checkpoint.

    Rules look at a tensor's key and, in an object-based checkpoint, at its variable's full name.

    Args:
        bundle: The checkpoint.
        options: How to cast.
        unfit: Tensors that must stay, with the reason.

    Returns:
        The tensors of the output, and why floating ones stay although the default would cast them.

    Raises:
        UsageError: A rule is malformed.
    """
    rules = compile_rules(options.keep, options.rule, options.preset)
    names = object_names(bundle) if rules else {}
    wanted, kept = [], {}
    for key, entry in bundle.entries.items():
        if not is_float(entry.dtype):
            wanted.append(Wanted(key, key, entry.dtype))
            continue
        rule = decide(rules, key, names.get(key, key))
        dtype, reason = options.precision, ""
        if key in unfit:
            dtype, reason = KEEP, unfit[key]
        elif rule is not None:
            dtype, reason = rule.dtype, f"asked for: {rule.flag}"
        elif not options.slots and kind_of_tensor(key, bundle) in ("slots", "steps"):
            dtype, reason = KEEP, "an optimizer's slot; --slots casts it"
        elif options.sources is not None and entry.dtype_name not in options.sources:
            dtype, reason = KEEP, f"--preset {options.preset} leaves {entry.dtype_name} as it is"
        if dtype == KEEP and entry.dtype_name != options.precision:
            kept[key] = reason
        enum = entry.dtype if dtype == KEEP else format.DTYPE_ENUMS[dtype]
        wanted.append(Wanted(key, key, enum, options.clamp))
    return wanted, kept


def without_effect(bundle: Bundle, options: CastOptions) -> list[str]:
    """Return the flags that find no tensor of a checkpoint; an op is not to be found there at all."""
    rules = compile_rules(options.keep, options.rule, None)
    names = [*bundle.entries, *(object_names(bundle).values() if rules else ())]
    return [*without_finding(rules, names), *(f"--keep-op {op}" for op in options.keep_op)]


def cast_weights(
    bundle: Bundle, wanted: Iterable[Wanted], prefix: Path, options: CastOptions, progress: Progress
) -> CastWeights:
    """Cast tensors and write them, on the threads of this process or on a Beam runner.

    Args:
        bundle: The source.
        wanted: The tensors of the output.
        prefix: The checkpoint to write; what lies in its folder is removed.
        options: How to cast.
        progress: Told which tensor is done.

    Raises:
        CheckpointError: The source is damaged.
        UnsupportedError: Something that is no floating number should be cast.
        RemoteRunError: The Beam runner failed.
    """
    wanted = list(wanted)
    plan = plan_cast(bundle, wanted, options.shard_mib << 20)
    shutil.rmtree(prefix.parent, ignore_errors=True)
    prefix.parent.mkdir(parents=True)
    workers: list[dict[str, Any]] = []
    if options.runner:
        from tpu2gpu.precision_caster.on_beam import cast_on_beam

        tensors, workers = cast_on_beam(bundle, wanted, prefix, options)
    else:
        tensors = _cast_here(bundle, plan, prefix, options, progress)
    write_index(prefix, {tensor.key: tensor.entry for tensor in tensors}, len(plan.shards))
    return _summarize(plan, tensors, workers, options)


def _cast_here(
    bundle: Bundle, plan: CastPlan, prefix: Path, options: CastOptions, progress: Progress
) -> list[CastTensor]:
    """Cast data file by data file; while one is cast, the disk takes the one before."""
    total = sum(len(shard) for shard in plan.shards)
    tensors: list[CastTensor] = []
    tell: Callable[[str, int, int], None]
    with ThreadPoolExecutor(1, thread_name_prefix="flush") as disk:
        flushes = []
        for shard in range(len(plan.shards)):
            before, path = len(tensors), format.shard_path(prefix, shard, len(plan.shards))

            def tell(key: str, done: int, _: int, before: int = before) -> None:
                progress("casting the weights", before + done, total)

            tensors += cast_shard(
                bundle,
                plan,
                shard,
                path,
                threads=options.threads or available_cores(),
                thorough=options.statistics,
                progress=tell,
            )
            flushes.append(disk.submit(flush, path))
        for flushed in flushes:
            flushed.result()
    return tensors


def _summarize(
    plan: CastPlan, tensors: Iterable[CastTensor], workers: list[dict[str, Any]], options: CastOptions
) -> CastWeights:
    statistics = {tensor.key: tensor.statistics for tensor in tensors}
    planned = [it for shard in plan.shards for it in shard]
    weights = []
    for it in sorted(planned, key=lambda it: it.wanted.key):
        name = it.wanted.key
        found = statistics[name]
        if found is None:
            continue
        weights.append(describe_weight(name, it.source.dtype, it.place.dtype, it.source.shape, found, options))
    report: dict[str, Any] = {
        "weights": weights,
        "size_bytes": sum(it.source.size_bytes for it in planned),
        "cast_size_bytes": sum(it.place.size_bytes for it in planned),
    }
    if workers:
        report["shards"] = workers
    return CastWeights(report, {name: found for name, found in statistics.items() if found is not None})


def describe_weight(
    name: str, source: int, target: int, shape: Iterable[int], statistics: CastStatistics, options: CastOptions
) -> dict[str, Any]:
    """Describe one cast tensor for a report."""
    return {
        "name": name,
        "from": format.DTYPE_NAMES[source],
        "to": format.DTYPE_NAMES[target],
        "shape": list(shape),
        **statistics.to_json(thorough=options.statistics),
    }
