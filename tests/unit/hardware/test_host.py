"""What a measurement was made on: the stable part stays the same, the momentary part is told apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from tpu2gpu.errors import UsageError
from tpu2gpu.hardware import host as hardware

SMI = """#!/bin/sh
case "$1" in
  *uuid*) echo "GPU-1234, 1980 MHz, 1980 MHz, 2619 MHz, 41, 3 %, P0" ;;
  *) echo "NVIDIA H200, 143771 MiB, 570.86.15" ;;
esac
"""


def test_the_stable_part_has_no_clocks_and_no_load():
    stable = hardware.stable_hardware()
    assert stable["cpu"]
    assert stable["cores"] == len(os.sched_getaffinity(0))
    assert set(stable) == {"cpu", "cores", "memory_gib", "gpus"}
    assert hardware.fingerprint(stable) == hardware.fingerprint(hardware.stable_hardware())


def test_gpus_are_named_with_their_driver(nvidia_smi):
    nvidia_smi(SMI)
    assert hardware.stable_hardware()["gpus"] == [
        {"name": "NVIDIA H200", "memory": "143771 MiB", "driver": "570.86.15"}
    ]
    assert hardware.momentary_state()["gpus"][0]["uuid"] == "GPU-1234"


def test_another_driver_is_another_fingerprint(nvidia_smi):
    nvidia_smi(SMI)
    before = hardware.fingerprint(hardware.stable_hardware())
    nvidia_smi(SMI.replace("570.86.15", "580.1"))
    assert hardware.fingerprint(hardware.stable_hardware()) != before


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho 'NVIDIA-SMI has failed'\n"])
def test_a_driver_that_does_not_answer_is_no_gpu(nvidia_smi, script):
    nvidia_smi(script)
    assert hardware.stable_hardware()["gpus"] == []


def test_the_momentary_part_is_plain_data():
    state = hardware.momentary_state()
    assert len(state["load_average"]) == 3
    assert json.loads(json.dumps(state)) == state


def test_cores_that_others_keep_busy_are_told_from_ours():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        without, with_it = hardware.CpuWatch([]), hardware.CpuWatch([process.pid])
        time.sleep(1.0)
        others, ours_known = without.others_busy_cores(), with_it.others_busy_cores()
        process.kill()
    assert others > 0.2
    assert ours_known < others - 0.1


def test_a_process_that_ended_does_no_harm():
    process = subprocess.Popen([sys.executable, "-c", ""])
    watch = hardware.CpuWatch([process.pid])
    process.wait()
    assert watch.others_busy_cores() >= 0


def test_the_cores_that_models_may_use_are_chosen_as_taskset_does():
    there = sorted(os.sched_getaffinity(0))
    assert hardware.choose_cpus(None) == there
    assert hardware.choose_cpus(str(there[0])) == [there[0]]
    assert hardware.choose_cpus(f"{there[0]}-{there[0]},{there[-1]}") == sorted({there[0], there[-1]})
    with pytest.raises(UsageError, match="no core 4095 for this process"):
        hardware.choose_cpus("4095")


@pytest.mark.parametrize("cores", ["0-99999999999", "\u00b2", "", "1-2-3", "-1", "x"])
def test_what_names_no_cores_is_refused_at_once(cores):
    with pytest.raises(UsageError, match="not a list of cores"):
        hardware.choose_cpus(cores)
    with pytest.raises(UsageError, match="not a list of cores"):
        hardware.choose_cpus("all")


def test_a_containers_quota_and_how_long_it_stopped_us_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    assert (hardware.momentary_state()["cpu_quota_cores"], hardware.momentary_state()["throttled_s"]) == (None, 0.0)
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 5\nnr_throttled 2\nthrottled_usec 2500000\n")
    state = hardware.momentary_state()
    assert (state["cpu_quota_cores"], state["throttled_s"]) == (1.5, 2.5)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert hardware.momentary_state()["cpu_quota_cores"] is None


def test_the_processes_that_a_model_started_are_ours():
    busy = "import time; end = time.time() + 1.5\nwhile time.time() < end: pass"
    parent = subprocess.Popen(["sh", "-c", f"{sys.executable} -c '{busy}'; true"])
    deadline = time.monotonic() + 10
    while not hardware._family(parent.pid)[1:]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    watch = hardware.CpuWatch([parent.pid])
    assert len(watch._processes) == 3
    parent.wait()
