"""Fork servers: slow libraries are imported once, and a child is as if it had imported them itself."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tpu2gpu.errors import WorkerError
from tpu2gpu.process.aslr import DISABLE_ASLR
from tpu2gpu.process.fork_client import close_servers
from tpu2gpu.process.worker import Worker, prepare_children, run_in_child

LIBRARY = """
import os, pathlib, time
FOLDER = pathlib.Path(__file__).parent
with (FOLDER / "imports").open("a") as file:
    file.write("once\\n")
SEEN = os.environ.get("COLOUR")

def tell():
    from tpu2gpu.process.aslr import aslr_is_disabled
    return {
        "pid": os.getpid(), "parent": os.getppid(), "seen": SEEN, "environment": dict(os.environ),
        "folder": os.getcwd(), "hash": hash("a"), "cpus": list(os.sched_getaffinity(0)), "no_aslr": aslr_is_disabled(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }

def hang():
    time.sleep(60)

class Server:
    def close(self):
        (FOLDER / "closed").touch()
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fork_servers: None) -> Callable[..., Any]:
    """Make a library, and a function that asks a child of its fork server."""
    (tmp_path / "slow_library.py").write_text(LIBRARY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def tell(**environment: str) -> Any:
        return run_in_child("slow_library:tell", {}, name="library", environment=environment, preload=["slow_library"])[
            0
        ]

    return tell


@pytest.fixture
def children() -> Callable[[], list[psutil.Process]]:
    """Tell the processes that this test has started and that still run."""
    before = psutil.Process().children()
    return lambda: [process for process in psutil.Process().children() if process not in before]


def imports(folder: Path) -> int:
    return len((folder / "imports").read_text().splitlines())


def test_the_library_is_imported_once(library: Callable[..., Any], tmp_path: Path) -> None:
    first, second = library(), library()
    assert imports(tmp_path) == 1
    assert first["pid"] != second["pid"]
    assert first["parent"] == second["parent"] != os.getpid()


def test_a_server_that_was_prepared_is_the_one_that_children_come_from(
    library: Callable[..., Any], tmp_path: Path
) -> None:
    prepare_children({"COLOUR": "green"}, ["slow_library"])
    prepare_children({"COLOUR": "green"}, ["slow_library"])
    assert library(COLOUR="green")["seen"] == "green"
    assert imports(tmp_path) == 1


def test_a_server_that_was_only_prepared_is_not_waited_for(
    library: Callable[..., Any], tmp_path: Path, children: Callable[[], list[psutil.Process]]
) -> None:
    (tmp_path / "endless_library.py").write_text("import time; time.sleep(600)")
    prepare_children({}, ["endless_library"])
    began = time.monotonic()
    close_servers()
    assert time.monotonic() - began < 5
    assert children() == []


def test_a_server_that_has_imported_more_is_taken_for_less(library: Callable[..., Any], tmp_path: Path) -> None:
    prepare_children({}, ["json", "slow_library"])
    assert library()["pid"]
    assert imports(tmp_path) == 1


def test_each_environment_has_its_own_server(library: Callable[..., Any], tmp_path: Path) -> None:
    red, blue, hidden = library(COLOUR="red"), library(COLOUR="blue"), library(CUDA_VISIBLE_DEVICES="-1")
    assert [found["seen"] for found in (red, blue, hidden)] == ["red", "blue", None]
    assert len({found["parent"] for found in (red, blue, hidden)}) == 3
    assert library(COLOUR="blue")["parent"] == blue["parent"]
    assert imports(tmp_path) == 3


def test_what_must_be_set_before_the_interpreter_starts_is(library: Callable[..., Any]) -> None:
    deterministic = {"PYTHONHASHSEED": "7", DISABLE_ASLR: "1"}
    alone = run_in_child("slow_library:tell", {}, name="library", environment=deterministic)[0]
    forked = library(**deterministic)
    assert (forked["hash"], forked["no_aslr"]) == (alone["hash"], alone["no_aslr"])
    other = library(PYTHONHASHSEED="8")
    assert other["hash"] != forked["hash"] and not other["no_aslr"]


def test_a_child_is_as_if_it_had_been_started_by_itself(
    library: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library()
    monkeypatch.chdir(tmp_path)
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(cpus)])
    try:
        forked = library()
        alone = run_in_child("slow_library:tell", {}, name="library")[0]
    finally:
        os.sched_setaffinity(0, cpus)
    for found in (forked, alone):
        assert found.pop("pid") != os.getpid()
        assert found.pop("hash")
    assert (alone.pop("parent") == os.getpid()) != (forked.pop("parent") == os.getpid())
    assert forked == alone
    assert forked["cpus"] == [min(cpus)]


def test_memory_is_counted_as_if_the_child_had_imported_the_library(library: Callable[..., Any]) -> None:
    alone, forked = (
        run_in_child("numpy:get_include", {}, name="numpy", preload=preload)[1] for preload in ([], ["numpy"])
    )
    assert forked == pytest.approx(alone, rel=0.1)


def test_both_end_with_their_parent(library: Callable[..., Any], tmp_path: Path) -> None:
    code = "import sys; from tpu2gpu.process.worker import Worker; "
    code += "w = Worker('slow_library:Server', preload=['slow_library']); print(w._process.pid, flush=True); "
    code += "h = Worker('builtins:list', preload=['slow_library']); print(h._process.pid, flush=True); "
    code += "h._exchange({'create': 'slow_library:hang', 'arguments': {}}, 60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        forked = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
        server = forked[0].parent()
        assert server is not None and server == forked[1].parent() and server.ppid() == parent.pid
        parent.kill()
    gone, left = psutil.wait_procs([server, *forked], timeout=30)
    assert len(gone) == 3 and not left
    assert (tmp_path / "closed").exists()  # what it held has been given back


def test_a_server_with_threads_is_not_forked(
    library: Callable[..., Any],
    children: Callable[[], list[psutil.Process]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    threads = "\nimport threading\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    (tmp_path / "slow_library.py").write_text(LIBRARY + threads)
    with caplog.at_level(logging.INFO, "tpu2gpu"):
        assert library()["parent"] == library()["parent"] == os.getpid()
    [line] = caplog.messages
    assert line.startswith("slow_library is imported anew by every child: its imports made threads: ")
    assert imports(tmp_path) == 3
    assert children() == []


def test_a_library_that_cannot_be_imported_is_the_childs_to_tell(
    library: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "slow_library.py").write_text("raise ImportError('libmissing.so: no such file')")
    with caplog.at_level(logging.INFO, "tpu2gpu"), pytest.raises(WorkerError, match=r"libmissing\.so: no such file"):
        library()
    assert caplog.messages == ["slow_library is imported anew by every child: ImportError: libmissing.so: no such file"]


def test_an_import_that_hangs_ends_at_the_limit(
    library: Callable[..., Any], children: Callable[[], list[psutil.Process]], tmp_path: Path
) -> None:
    (tmp_path / "slow_library.py").write_text("import time; time.sleep(60)")
    with pytest.raises(WorkerError, match=r"sleeper: slow_library not imported within 0\.5 s"):
        Worker("builtins:list", name="sleeper", preload=["slow_library"], timeout_s=0.5)
    assert children() == []


def test_a_server_that_is_gone_takes_its_children_along_and_is_replaced(library: Callable[..., Any]) -> None:
    with Worker("builtins:list", name="orphan", preload=["slow_library"]) as worker:
        server = psutil.Process(worker._process.pid).parent()
        assert server is not None
        server.send_signal(signal.SIGKILL)
        time.sleep(0.2)
        with pytest.raises(WorkerError, match="orphan: was killed by SIGKILL"):
            worker.call("copy")
    assert library()["parent"] not in (server.pid, os.getpid())


def test_servers_that_are_not_used_make_room(
    library: Callable[..., Any], children: Callable[[], list[psutil.Process]]
) -> None:
    first = psutil.Process(library(COLOUR="0")["parent"])
    for number in range(1, 5):
        library(COLOUR=str(number))
    assert first.is_running() and len(children()) == 5
    library(COLOUR="5")
    assert psutil.wait_procs([first], timeout=10)[0] == [first]
    assert len(children()) == 5
    close_servers()
    assert children() == []
