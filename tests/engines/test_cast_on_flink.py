"""The cast on a real Flink cluster: same bytes, several workers, and right although a machine is lost in the middle."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engines import flink_cluster
from tests.engines.flink_cluster import FlinkCluster
from tpu2gpu.precision_caster.casting import cast_checkpoint
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.tensorbundle.writer import BundleWriter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    reason = flink_cluster.why_not() or flink_cluster.fetch()
    if reason:
        print(reason)
        pytest.skip(reason)
    with FlinkCluster(tmp_path_factory.mktemp("flink")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 MB of weights in 100 tensors."""
    prefix = tmp_path_factory.mktemp("source") / "model"
    random = np.random.default_rng(31)
    with BundleWriter(prefix) as writer:
        for number in range(100):
            writer.add_array(f"layer_{number:03d}/kernel", random.standard_normal((1024, 1024), np.float32))
        writer.add_array("step", np.array(7))
    return prefix


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    target = tmp_path_factory.mktemp("expected") / "model"
    cast_checkpoint(source, target, CastOptions(shard_mib=2))
    return _files(target)


def _files(target: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((target / "checkpoint").iterdir())}


def _options(cluster: FlinkCluster) -> CastOptions:
    return CastOptions(shard_mib=2, runner="PortableRunner", beam=cluster.beam_arguments)


def test_the_bundle_is_the_same_and_several_workers_made_it(
    cluster: FlinkCluster, source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    result = cast_checkpoint(source, tmp_path / "model", _options(cluster))
    assert _files(tmp_path / "model") == expected
    shards = json.loads((tmp_path / "model" / "report.json").read_text())["shards"]
    assert [it["file"] for it in shards] == [name for name in expected if ".data-" in name]
    assert len({(it["host"], it["process"]) for it in shards}) >= 2
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert result.cast_tensors == 100


def test_a_task_manager_that_is_killed_in_the_middle_changes_nothing(
    cluster: FlinkCluster, source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    killed: list[tuple[str, int]] = []

    def kill_the_first_that_works() -> None:
        while not killed:
            for path in tmp_path.glob(".model.partial-*/checkpoint/*.cast.json"):
                name = cluster.task_manager_of(json.loads(path.read_text())["worker"]["process"])
                cluster.kill(name)
                killed.append((name, len(list(path.parent.glob("*.cast.json")))))
                break
            time.sleep(0.002)

    killer = threading.Thread(target=kill_the_first_that_works, daemon=True)
    killer.start()
    starter = threading.Timer(20, lambda: cluster.start_task_manager("task manager 2"))
    starter.start()  # as a cluster's supervisor would
    try:
        cast_checkpoint(source, tmp_path / "model", _options(cluster))
    finally:
        starter.join()
    killer.join(1)
    shards = len(expected) - 1
    assert killed
    assert killed[0][1] < shards, "the cast was done before anything was killed"
    assert _files(tmp_path / "model") == expected
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
