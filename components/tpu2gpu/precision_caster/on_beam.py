"""The weights' cast as a Beam pipeline: one work item for each data file of the output.

The plan is laid out before the pipeline starts and stands in a file that every worker reads, so an item is no more
than a number. A worker writes its data file under a name of this attempt, and renames it when it is whole: an engine
may run an item twice, or on two workers at once, and the same bytes come out. What the items found lies in a small
file beside each data file; the process that started the pipeline puts the index together of them, last of all.

Source and target must lie where every worker sees them under the same path; a source may also have a scheme (`gs://`).
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import attrs

from tpu2gpu.errors import Tpu2GpuError, UnsupportedError
from tpu2gpu.storage.paths import is_remote
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.slices import Box
from tpu2gpu.tensorbundle.statistics import CastStatistics
from tpu2gpu.tensorbundle.streaming import CastPlan, CastTensor, Wanted, cast_shard, flush, plan_cast
from tpu2gpu.tfx.beam import check_complete, read_results, run_on_beam, write_result

if TYPE_CHECKING:
    from tpu2gpu.precision_caster.options import CastOptions


class CastShard(beam.DoFn):
    """Casts one shard: takes `{"plan": path, "shard": number}` as JSON, gives the path of what was found."""

    def process(self, element: str) -> Iterator[str]:
        """Cast, and rename the data file and then its result when they are whole."""
        item = json.loads(element)
        bundle, plan, told = _read_plan(item["plan"])
        shard = int(item["shard"])
        data = format.shard_path(told["prefix"], shard, len(plan.shards))
        partial = data.with_name(f"{data.name}.attempt-{uuid.uuid4().hex}")
        try:
            tensors = cast_shard(bundle, plan, shard, partial, threads=told["threads"], thorough=told["statistics"])
            flush(partial)
            partial.replace(data)
        except Tpu2GpuError as error:  # it would fail on every worker: nothing is won by trying again
            write_result(_result_file(data), error)
        else:
            worker = {"host": socket.gethostname(), "process": os.getpid()}
            write_result(_result_file(data), {"worker": worker, "tensors": [_tensor_to_json(it) for it in tensors]})
        finally:
            partial.unlink(missing_ok=True)
        yield str(_result_file(data))


def cast_on_beam(
    bundle: Bundle, wanted: Sequence[Wanted], prefix: Path, options: CastOptions
) -> tuple[list[CastTensor], list[dict[str, Any]]]:
    """Write the data files of a bundle on a Beam runner; the index is the caller's.

    Args:
        bundle: The source.
        wanted: The tensors of the output.
        prefix: The checkpoint to write; its folder is there.
        options: How to cast, and on which runner.

    Returns:
        What was written, and for each data file which process of which machine cast it.

    Raises:
        RemoteRunError: The runner failed, or left data files out.
        UnsupportedError: The target has a scheme.
        CheckpointError: The source is damaged.
    """
    if is_remote(prefix):
        raise UnsupportedError(f"{prefix}: workers rename files, which needs a mounted file system")
    plan = plan_cast(bundle, wanted, options.shard_mib << 20)
    path = prefix.absolute().with_name(f"cast-plan-{uuid.uuid4().hex}.json")  # a worker may remember another pass's
    source = bundle.prefix if is_remote(bundle.prefix) else Path(bundle.prefix).absolute()
    told = {
        "source": os.fspath(source),
        "prefix": os.fspath(prefix.absolute()),
        "shard_mib": options.shard_mib,
        "threads": options.threads or 1,
        "statistics": options.statistics,
        "wanted": [attrs.asdict(it) for it in wanted],
    }
    path.write_text(json.dumps(told), encoding="utf-8")
    items = [json.dumps({"plan": str(path), "shard": shard}) for shard in range(len(plan.shards))]

    def build(pipeline: beam.Pipeline) -> None:
        _ = (
            pipeline
            | "Shards" >> beam.Create(items, reshuffle=False)
            | "Spread" >> beam.Reshuffle()
            | "Cast" >> beam.ParDo(CastShard())
        )

    run_on_beam(build, str(options.runner), options.beam)
    files = [format.shard_path(prefix, shard, len(plan.shards)) for shard in range(len(plan.shards))]
    found = _collect(files)
    for stray in prefix.parent.iterdir():  # the plan, the results, and what lost workers left behind
        if stray not in files:
            stray.unlink()
    planned = {it.wanted.key: it.place for shard in plan.shards for it in shard}
    tensors = [_tensor_from_json(planned, it) for result in found for it in result["tensors"]]
    workers = [{"file": file.name, **it["worker"]} for file, it in zip(files, found, strict=True)]
    return tensors, workers


def _collect(files: list[Path]) -> list[dict[str, Any]]:
    """Read what the work items found.

    Raises:
        RemoteRunError: Some are missing.
        Tpu2GpuError: One of them could not do its work.
    """
    there = [file.name for file in files if _result_file(file).is_file()]
    check_complete([file.name for file in files], there, "data files", "source and target")
    return read_results(_result_file(file) for file in files)


def _result_file(data: Path) -> Path:
    return data.with_name(f"{data.name}.cast.json")


@lru_cache(maxsize=1)
def _read_plan(path: str) -> tuple[Bundle, CastPlan, dict[str, Any]]:
    """Read the plan that a file holds; a worker reads it once for all its items."""
    told = json.loads(Path(path).read_text(encoding="utf-8"))
    bundle = Bundle(told["source"])
    wanted = [
        Wanted(**{**it, "box": it["box"] and Box(**{name: tuple(sizes) for name, sizes in it["box"].items()})})
        for it in told["wanted"]
    ]
    return bundle, plan_cast(bundle, wanted, told["shard_mib"] << 20), told


def _tensor_to_json(tensor: CastTensor) -> dict[str, Any]:
    statistics = None if tensor.statistics is None else attrs.asdict(tensor.statistics)
    return {"key": tensor.key, "crc32c": tensor.entry.crc32c, "statistics": statistics}


def _tensor_from_json(planned: dict[str, format.Entry], told: dict[str, Any]) -> CastTensor:
    statistics = None if told["statistics"] is None else CastStatistics(**told["statistics"])
    return CastTensor(told["key"], attrs.evolve(planned[told["key"]], crc32c=told["crc32c"]), statistics)
