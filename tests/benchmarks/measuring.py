"""Wall time and peak memory of a function in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any


def measured(function: str, *arguments: str) -> dict[str, float]:
    """Calls `module:function` with texts in a new process.

    Returns:
        wall_s: Of the call alone, imports done before.
        cpu_s: Of the call and the processes that it ended, imports done before.
        anon_mib: The most anonymous memory that the call held, over what the process held before it.
        process_s: Of the whole process, imports included.
    """
    begun = time.perf_counter()
    command = [sys.executable, "-m", "tests.benchmarks.measuring", function, *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "process_s": time.perf_counter() - begun}


def compare(
    module: str, ways: Iterable[str], source: Path, target: Path, *, rounds: int
) -> dict[str, dict[str, float]]:
    """Calls a module's functions with source and target, in turns; gives the medians of each one's figures."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, runs in found.items():
            shutil.rmtree(target, ignore_errors=True)
            runs.append(measured(f"{module}:{way}", str(source), str(target)))
    return {way: medians(runs) for way, runs in found.items()}


def print_table(titles: Mapping[str, str], found: Mapping[str, Mapping[str, float]]) -> None:
    """Prints each way's figures, and its time as a multiple of ours."""
    print(f"{'way':45s} {'wall s':>8s} {'times ours':>11s} {'anonymous MiB':>14s}")
    for way, it in found.items():
        ratio = it["wall_s"] / found["ours"]["wall_s"]
        print(f"{titles[way]:45s} {it['wall_s']:8.2f} {ratio:11.2f} {it['anon_mib']:14.0f}")


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: median(each[key] for each in rounds) for key in rounds[0]}


def _anonymous_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0


def _cpu_s() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _main(function: str, *arguments: str) -> None:
    import importlib

    module, _, name = function.partition(":")
    call: Any = getattr(importlib.import_module(module), name)
    prepare = getattr(importlib.import_module(module), "prepare", None)
    if prepare is not None:
        prepare()
    before = _anonymous_mib()
    most, watching_s, stop = before, 0.0, threading.Event()

    def watch() -> None:
        nonlocal most, watching_s
        while not stop.wait(0.002):
            most = max(most, _anonymous_mib())
        watching_s = time.thread_time()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    begun, begun_cpu = time.perf_counter(), _cpu_s()
    call(*arguments)
    wall_s, cpu_s = time.perf_counter() - begun, _cpu_s() - begun_cpu
    stop.set()
    watcher.join()
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s - watching_s, "anon_mib": most - before}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
