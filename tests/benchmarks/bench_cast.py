"""How fast and in how much memory a checkpoint is cast, against TensorFlow's ways and the floor that the disk sets.

A checkpoint of 2 GB (one embedding of 1 GiB, 16 transformer layers, 53 convolutions) becomes float16, then bfloat16
and back. Every way runs in a process of its own, once warm; the ways take turns, so that a slow minute of the machine
meets all. Read ratios, not seconds.

What bounds our ways: reading and writing are copies between page cache and buffer, as in the floor; ml_dtypes' cast
to bfloat16 (about 0.25 s for 1 GB) and the checksums (0.08 s) hold Python's lock, so two threads share them; float16
takes twelve passes of numpy over a piece in cache, and all statistics twelve more, each of which hands the lock over.

    python -m tests.benchmarks cast [--reduced]
    python -m tests.benchmarks.bench_cast [--scale 0.1] [--rounds 5] [--only WORD]... [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

GOAL_OF_CAST, GOAL_OF_STATISTICS, GOAL_OF_TENSORFLOW, GOAL_MIB = 1.2, 2.5, 4.0, 64

FLOOR = "floor: read input, write as many bytes as the output"
WIDENING, WIDENING_FLOOR = "ours, 2 threads, bfloat16 to float32", "floor of bfloat16 to float32"
# Name: what runs, and its arguments.
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    FLOOR: ("floor", {}),
    WIDENING_FLOOR: ("floor", {"source": "bfloat16", "growth": 2.0}),
    "ours, 1 thread": ("ours", {"threads": 1}),
    "ours, 2 threads": ("ours", {"threads": 2}),
    "ours, 2 threads, all statistics": ("ours", {"threads": 2, "thorough": True}),
    "ours, 2 threads, to bfloat16": ("ours", {"threads": 2, "to": "bfloat16"}),
    WIDENING: ("ours", {"threads": 2, "to": "float32", "source": "bfloat16"}),
    "TensorFlow, streaming slices": ("streaming", {}),
    "TensorFlow, load all": ("load_all", {}),
}
RECIPE = "the usual recipe: variable by variable into a graph"


def make_checkpoint(prefix: Path, scale: float, dtype: Any = np.float32) -> None:
    """Writes the checkpoint; the same weights are repeated, which nothing here can notice."""
    from tpu2gpu.tensorbundle.writer import BundleWriter

    base = (np.random.default_rng(0).standard_normal(1 << 22, np.float32) * 0.02).astype(dtype)

    def chunks(count: int) -> Any:
        for start in range(0, count, base.size):
            yield base[: min(base.size, count - start)].view(np.uint8).data

    width = int(1024 * scale**0.5) // 8 * 8 or 8
    shapes: dict[str, tuple[int, ...]] = {"embedding/table": (int(262144 * scale**0.5), width)}
    for layer in range(16):
        for name in "qkvo":
            shapes[f"layer_{layer}/{name}/kernel"], shapes[f"layer_{layer}/{name}/bias"] = (width, width), (width,)
        shapes[f"layer_{layer}/inner/kernel"] = (width, 4 * width)
        shapes[f"layer_{layer}/outer/kernel"] = (4 * width, width)
        shapes[f"layer_{layer}/norm/gamma"] = (width,)
    for number in range(53):
        channels = max(8, width >> (3 - number // 14))
        shapes[f"conv_{number}/kernel"] = (3, 3, channels // 2, channels // 2)
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"norm_{number}/{name}"] = (channels // 2,)
    from tpu2gpu.tensorbundle.format import DTYPE_ENUMS

    with BundleWriter(prefix, shard_bytes=256 << 20) as writer:
        for key, shape in sorted(shapes.items()):
            writer.add(key, DTYPE_ENUMS[base.dtype.name], shape, chunks(int(np.prod(shape))))
        writer.add_array("global_step", np.array(7))


# ------------------------------------------------------------------------------------------------ the ways


def ours(source: Path, target: Path, *, threads: int, to: str = "float16", thorough: bool = False, **_: Any) -> None:
    """What `cast_checkpoint` does, without the manifest's digests."""
    from tpu2gpu.precision_caster.options import CastOptions
    from tpu2gpu.precision_caster.weights import cast_weights, choose_types
    from tpu2gpu.progress import silent
    from tpu2gpu.tensorbundle.reader import Bundle

    options = CastOptions(to=to, threads=threads, statistics=thorough)
    bundle = Bundle(source)
    wanted, _kept = choose_types(bundle, options, {})
    cast_weights(bundle, wanted, target / "out" / "model", options, silent)


def floor(source: Path, target: Path, *, growth: float = 0.5) -> None:
    """`cat` of the input, `dd` of as many bytes as the output takes."""
    files = sorted(source.parent.glob(source.name + ".data-*"))
    size = sum(path.stat().st_size for path in files)
    target.mkdir(parents=True)
    with Path(os.devnull).open("wb") as nothing:
        subprocess.run(["cat", *files], stdout=nothing, check=True)
    count = max(1, int(size * growth) >> 23)
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={target / 'zeros'}", "bs=8M", f"count={count}"], check=True, capture_output=True
    )


def streaming(source: Path, target: Path, **_: Any) -> None:
    """RestoreV2 in slices of 128 MB, tf.cast, SaveV2, MergeV2Checkpoints."""
    import tensorflow as tf

    target.mkdir(parents=True)
    reader, budget = tf.train.load_checkpoint(str(source)), 128 << 20
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    groups: list[list[tuple[str, str, Any]]] = [[]]
    filled = 0
    for name in sorted(shapes):
        shape, size = shapes[name], int(np.prod(shapes[name], dtype=np.int64)) * dtypes[name].size
        if size > budget:
            rows = max(1, budget // (size // shape[0]))
            full = " ".join(map(str, shape))
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                groups.append([(name, f"{full} {start},{count}:" + ":".join("-" for _ in shape[1:]), dtypes[name])])
            groups.append([])
            filled = 0
            continue
        groups[-1].append((name, "", dtypes[name]))
        filled += size
        if filled > budget:
            groups.append([])
            filled = 0
    prefixes = []
    for number, group in enumerate(filter(None, groups)):
        names, slices, types = map(list, zip(*group, strict=True))
        tensors = tf.raw_ops.RestoreV2(prefix=str(source), tensor_names=names, shape_and_slices=slices, dtypes=types)
        cast = [tf.cast(tensor, tf.float16) if tensor.dtype == tf.float32 else tensor for tensor in tensors]
        prefixes.append(str(target / f"part-{number}"))
        tf.raw_ops.SaveV2(prefix=prefixes[-1], tensor_names=names, shape_and_slices=slices, tensors=cast)
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=prefixes, destination_prefix=str(target / "model"), delete_old_dirs=False
    )


def load_all(source: Path, target: Path, **_: Any) -> None:
    """Every tensor into memory, tf.cast, tf.train.Checkpoint."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(source))
    variables = {}
    for name in reader.get_variable_to_shape_map():
        value = reader.get_tensor(name)
        variables[name.replace("/", ".")] = tf.Variable(
            tf.cast(value, tf.float16) if value.dtype == np.float32 else value
        )
    target.mkdir(parents=True)
    tf.train.Checkpoint(**variables).write(str(target / "model"))


def recipe(source: Path, target: Path, **_: Any) -> None:
    """Variable by variable: load_variable, assign(tf.cast(constant)), Saver.save."""
    import tensorflow as tf

    v1 = tf.compat.v1
    target.mkdir(parents=True)
    with tf.Graph().as_default(), v1.Session() as session:
        assigns = []
        for name, shape in tf.train.list_variables(str(source)):
            value = tf.train.load_variable(str(source), name)
            dtype = tf.float16 if value.dtype == np.float32 else value.dtype
            variable = v1.get_variable(name, shape, dtype, v1.zeros_initializer(), use_resource=False)
            assigns.append(variable.assign(tf.cast(value, dtype)))
        session.run(assigns)
        v1.train.Saver().save(session, str(target / "model"))


# ------------------------------------------------------------------------------------------------ measuring


def _anonymous_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0


def _measure_here(way: str, arguments: dict[str, Any], source: Path, target: Path) -> None:
    """Runs in a process of its own: warms libraries up, then measures one run and prints it as JSON."""
    arguments.pop("source", None)  # which checkpoint: chosen by the caller
    run: Callable[..., None] = globals()[way]
    if way != "floor":
        with tempfile.TemporaryDirectory() as folder:
            if way != "ours":
                import tensorflow as tf

                tf.raw_ops.SaveV2(prefix=f"{folder}/x", tensor_names=["a"], shape_and_slices=[""], tensors=[tf.ones(8)])
            warm = Path(folder) / "warm"
            make_checkpoint(warm / "model", 0.0005)
            run(warm / "model", warm / "out", **arguments)
    from tpu2gpu.tensorbundle.streaming import flush

    base = _anonymous_mib()
    peak, stop = [base], threading.Event()

    def poll() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], _anonymous_mib())

    poller = threading.Thread(target=poll)
    poller.start()
    start = time.perf_counter()
    run(source, target, **arguments)
    cast_s = time.perf_counter() - start
    for path in [it for it in target.rglob("*") if it.is_file()]:
        flush(path)
    total_s = time.perf_counter() - start
    stop.set()
    poller.join()
    print(json.dumps({"cast_s": cast_s, "flushed_s": total_s, "anonymous_mib": peak[0] - base}))


def _measure(way: str, arguments: dict[str, Any], source: Path, folder: Path) -> dict[str, float]:
    target = folder / "out"
    shutil.rmtree(target, ignore_errors=True)
    os.sync()
    command = [sys.executable, "-m", "tests.benchmarks.bench_cast", "--child", way, json.dumps(arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run(
        [*command, str(source), str(target)], capture_output=True, text=True, check=False, env=environment
    )
    shutil.rmtree(target, ignore_errors=True)
    if run.returncode:
        raise RuntimeError(f"{way}: {run.stderr.strip()[-800:]}")
    result: dict[str, float] = json.loads(run.stdout.strip().splitlines()[-1])
    return result


def main(
    *,
    reduced: bool = False,
    scale: float = 1.0,
    rounds: int = 5,
    only: Sequence[str] = (),
    folder_for_files: str | None = None,
) -> None:
    """Measures all ways and prints a table.

    Args:
        reduced: A twentieth of the size, one round: shows that it works.
        scale: Size of the checkpoint; 1 is 2 GB.
        rounds: How often each way runs.
        only: Measure the floor and the ways whose names hold one of these words; all where there are none.
        folder_for_files: Where to write; the system's temporary folder when not given.
    """
    if reduced:
        scale, rounds = 0.05, 1
    import ml_dtypes

    with tempfile.TemporaryDirectory(dir=folder_for_files) as name:
        folder = Path(name)
        make_checkpoint(folder / "float32" / "model", scale)
        make_checkpoint(folder / "bfloat16" / "model", scale, ml_dtypes.bfloat16)
        make_checkpoint(folder / "small" / "model", 0.1 * scale)
        size = sum(path.stat().st_size for path in (folder / "float32").iterdir())
        ways = {**WAYS, RECIPE: ("recipe", {"source": "small"})}
        if only:
            ways = {way: it for way, it in ways.items() if any(word in way for word in ("floor", *only))}
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (function, extra) in ways.items():
                source = folder / extra.get("source", "float32") / "model"
                found[way].append(_measure(function, extra, source, folder))
        _print(found, size, rounds)


def _print(found: dict[str, list[dict[str, float]]], size: int, rounds: int) -> None:
    median = {way: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for way, runs in found.items()}
    base = median[FLOOR]["flushed_s"]
    floors = dict.fromkeys((WIDENING, WIDENING_FLOOR), median[WIDENING_FLOOR]["flushed_s"])
    print(f"{size / 1e9:.2f} GB of float32, medians of {rounds}, {len(os.sched_getaffinity(0))} cores")
    print(f"{'way':55s} {'cast s':>8s} {'flushed s':>10s} {'of floor':>9s} {'anonymous MiB':>14s}")
    for way, it in median.items():
        note = f"  (on {size / 1e10:.2f} GB, a tenth)" if way == RECIPE else ""
        print(
            f"{way:55s} {it['cast_s']:8.2f} {it['flushed_s']:10.2f} {it['flushed_s'] / floors.get(way, base):9.2f} "
            f"{it['anonymous_mib']:14.0f}{note}"
        )
    two, full = median.get("ours, 2 threads"), median.get("ours, 2 threads, all statistics")
    streamed = median.get("TensorFlow, streaming slices")
    goals = {}
    if two:
        goals[f"cast at most {GOAL_OF_CAST} of the floor"] = two["flushed_s"] / base <= GOAL_OF_CAST
        goals[f"cast with at most {GOAL_MIB} MiB"] = two["anonymous_mib"] <= GOAL_MIB
    if full:
        goals[f"with statistics at most {GOAL_OF_STATISTICS}"] = full["flushed_s"] / base <= GOAL_OF_STATISTICS
        goals[f"with statistics with at most {GOAL_MIB} MiB"] = full["anonymous_mib"] <= GOAL_MIB
    if two and streamed:
        faster = streamed["flushed_s"] / two["flushed_s"]
        goals[f"at least {GOAL_OF_TENSORFLOW:g} times faster than streaming ({faster:.1f})"] = (
            faster >= GOAL_OF_TENSORFLOW
        )
    for goal, reached in goals.items():
        print(f"{'reached' if reached else 'MISSED '}  {goal}")


def _command_line() -> None:
    if sys.argv[1:2] == ["--child"]:
        _, _, way, extra, source, target = sys.argv
        _measure_here(way, json.loads(extra), Path(source), Path(target))
        return
    parser = argparse.ArgumentParser("bench_cast")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 2 GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], help="the floor and the ways whose names hold this word")
    parser.add_argument("--folder", help="where to write; the system's temporary folder when not given")
    given = parser.parse_args()
    main(scale=given.scale, rounds=given.rounds, only=given.only, folder_for_files=given.folder)


if __name__ == "__main__":
    _command_line()
