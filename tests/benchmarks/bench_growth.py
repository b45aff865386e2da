"""How CPU time and memory grow with the input: the exponent of size, 1 where twice the input takes twice as much."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.measuring import Command, Figures, Sample, Setting, build, clear, ours, run

_MOST = 1.05
_CHECKPOINT_GB, _LARGE_CHECKPOINT_GB = (0.25, 0.5, 1.0, 2.0), (5.0, 20.0)
_NODES, _LARGE_NODES = (1_000, 4_000, 16_000), (64_000, 200_000)
_DENSE_MB, _LARGE_DENSE_MB, _WHOLE_MB = (50, 150, 500), (1_500, 5_000), 2_000


def measure(setting: Setting) -> list[Figures]:
    """Measure cast, import and freeze."""
    large = setting.large
    folder = setting.folder if large or setting.memory is None else setting.memory  # memory does not hold 20 GB

    def sizes(usual: Sequence[float], more: Sequence[float]) -> list[float]:
        return [usual[0]] if setting.reduced else [*usual, *(more if large else ())]

    def cast(size: float) -> Sequence[Command]:
        build("inputs:make_checkpoint", folder / "in" / "model", str(size * 0.525))
        return [ours("cast", folder / "in" / "model", folder / "out", "--to", "float16", "--force")]

    def import_(size: float) -> Sequence[Command]:
        (folder / "in").mkdir()
        build("chains:make_chain", folder / "in", str(int(size)))
        return [ours("import", folder / "in" / "model", folder / "out", "--force")]

    def freeze(size: float) -> Sequence[Command]:
        build("inputs:make_dense", folder / "in", "2048", str(max(1, round(size / 16.8))))
        more = ["--split-weights"] if size > _WHOLE_MB else []  # a graph takes 2 GiB
        return [ours("freeze", folder / "in", folder / "out", "--force", *more)]

    return [
        _grow("cast", "GB", sizes(_CHECKPOINT_GB, _LARGE_CHECKPOINT_GB), cast, folder),
        _grow("import", "nodes", sizes(_NODES, _LARGE_NODES), import_, folder),
        _grow("freeze", "MB", sizes(_DENSE_MB, _LARGE_DENSE_MB), freeze, folder),
    ]


def _grow(
    work: str, unit: str, sizes: Sequence[float], prepare: Callable[[float], Sequence[Command]], folder: Path
) -> Figures:
    """Measure a step twice at each size, and take the lesser CPU time: what disturbs only adds."""
    found: list[tuple[float, Sample]] = []
    for size in sizes:
        commands = prepare(size)
        samples = [run(commands) for _ in range(2)]
        found.append((size, min(samples, key=lambda it: it.cpu_s)))
        clear(folder / "in", folder / "out")
    rows = [(f"{size:,g} {unit}", f"{it.cpu_s:.2f}", f"{it.peak_mib:.0f}") for size, it in found]
    reached = {}
    if len(found) > 1:
        time = exponent([(size, it.cpu_s) for size, it in found])
        memory = exponent([(size, it.peak_mib) for size, it in found])
        last = exponent([(size, it.cpu_s) for size, it in found[-2:]])
        rows.append(("exponent", f"{time:.2f}; between the last two {last:.2f}", f"{memory:.2f}"))
        reached[f"exponent of time at most {_MOST}, between the last two sizes as well"] = max(time, last) <= _MOST
    return Figures(f"{work}, by size", ("size", "CPU s", "peak MiB"), tuple(rows), reached)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Fit a power of the size by least squares of the logarithms."""
    x, y = ([math.log(each[side]) for each in points] for side in (0, 1))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
