"""Child processes: an abort, a hang and a flood of memory there are typed errors here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import psutil
import pytest

from tpu2gpu.errors import GraphError, WorkerError
from tpu2gpu.process.child import tell_parent
from tpu2gpu.process.fork_client import close_servers
from tpu2gpu.process.worker import Worker, run_in_child

HERE = "tests.unit.process.test_worker"


def add(a: int, b: int) -> int:
    return a + b


def refuse() -> None:
    raise GraphError("two nodes", details=["a", "b"], hint="cut them")


def fail() -> None:
    raise RuntimeError("unexpected")


def abort() -> None:
    os.write(2, b"native library: assertion failed\n")
    os.abort()


def die_of(path: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    time.sleep(60)


def count_aloud(to: int) -> int:
    for number in range(to):
        tell_parent({"counted": number})
    return to


def flood() -> None:
    held = [bytearray(b"x" * (64 << 20)) for _ in range(16)]
    time.sleep(60)
    del held


@pytest.fixture(params=[[], ["attrs"]], ids=["started", "forked"])
def preload(request: pytest.FixtureRequest, fork_servers: None) -> list[str]:
    """Start a child by itself, or let a fork server make it: nothing else may differ."""
    names: list[str] = request.param
    return names


class Counter:
    def __init__(self, start: int) -> None:
        self.count = start

    def increase(self, by: int) -> int:
        print("chatter on standard output does not disturb")
        self.count += by
        return self.count


def test_a_function_runs_in_another_process(preload: list[str]) -> None:
    assert run_in_child(f"{HERE}:add", {"a": 2, "b": 3}, name="sum", preload=preload)[0] == 5
    child, peak_rss_bytes = run_in_child("os:getpid", {}, name="pid", preload=preload)
    assert child != os.getpid()
    assert 5 << 20 < peak_rss_bytes < 500 << 20


def test_an_object_keeps_its_state_between_calls(preload: list[str]) -> None:
    with Worker(f"{HERE}:Counter", {"start": 10}, preload=preload) as worker:
        assert worker.call("increase", by=1) == 11
        assert worker.call("increase", by=5) == 16
        assert "chatter" in worker.log()


def test_our_errors_cross_over_whole(preload: list[str]) -> None:
    with pytest.raises(GraphError) as caught:
        run_in_child(f"{HERE}:refuse", {}, name="cutter", preload=preload)
    assert (caught.value.details, caught.value.hint) == (("a", "b"), "cut them")


def test_other_errors_become_typed_with_their_trace(preload: list[str]) -> None:
    with pytest.raises(WorkerError, match="RuntimeError: unexpected") as caught:
        run_in_child(f"{HERE}:fail", {}, name="failing", preload=preload)
    assert any("in fail" in line for line in caught.value.details)


def test_an_abort_is_named_with_the_last_words(preload: list[str]) -> None:
    with pytest.raises(WorkerError, match="builder: was killed by SIGABRT") as caught:
        run_in_child(f"{HERE}:abort", {}, name="builder", preload=preload)
    assert "native library: assertion failed" in caught.value.details


def test_a_hang_ends_at_the_limit_and_leaves_no_process(preload: list[str]) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    start = time.monotonic()
    with pytest.raises(WorkerError, match=r"sleeper: no answer within 0\.5 s"):
        run_in_child(f"{HERE}:hang", {}, name="sleeper", preload=preload, timeout_s=0.5)
    assert time.monotonic() - start < 10
    close_servers()
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_a_call_that_still_runs_ends_with_its_parent(preload: list[str]) -> None:
    code = f"from tpu2gpu.process.worker import Worker; w = Worker('builtins:list', preload={preload}); "
    code += f"print(w._process.pid, flush=True); w._exchange({{'create': '{HERE}:hang', 'arguments': {{}}}}, 60)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    gone, left = psutil.wait_procs([child], timeout=30)
    assert gone and not left


def test_too_much_memory_ends_the_child(preload: list[str]) -> None:
    with pytest.raises(WorkerError, match=r"glutton: took \d+ MiB of memory, the limit is 300 MiB"):
        run_in_child(f"{HERE}:flood", {}, name="glutton", preload=preload, memory_limit_bytes=300 << 20)


def test_a_child_that_is_gone_stays_an_error(preload: list[str]) -> None:
    with Worker(f"{HERE}:Counter", {"start": 0}, name="mortal", preload=preload) as worker:
        psutil.Process(worker.call("increase", by=0) or worker._process.pid).kill()
        time.sleep(0.2)
        with pytest.raises(WorkerError, match="mortal: was killed by SIGKILL"):
            worker.call("increase", by=1)


def test_a_child_tells_facts_before_it_is_done(preload: list[str]) -> None:
    heard: list[Any] = []
    assert run_in_child(f"{HERE}:count_aloud", {"to": 3}, name="counter", preload=preload, hear=heard.append)[0] == 3
    assert heard == [{"counted": 0}, {"counted": 1}, {"counted": 2}]


def test_facts_that_nobody_wants_to_hear_are_passed_over(preload: list[str]) -> None:
    assert run_in_child(f"{HERE}:count_aloud", {"to": 2000}, name="counter", preload=preload)[0] == 2000
    tell_parent("this process is nobody's child")


def test_a_child_that_nobody_waits_for_is_stopped(preload: list[str]) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    with pytest.raises(WorkerError, match="sleeper: stopped"):
        run_in_child(f"{HERE}:hang", {}, name="sleeper", preload=preload, stop=stop)
    assert time.monotonic() - began < 30
    assert not [it for it in psutil.Process().children(recursive=True) if "child" in " ".join(it.cmdline())]
