"""A real Triton that polls the promotion folder never fails a request while models are promoted and rolled back."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import numpy as np
import pytest

from tests.engines import triton_server
from tests.engines.triton_server import TritonServer
from tests.models.serving_folders import serving_folder
from tpu2gpu.storage.promotion.home import find_home
from tpu2gpu.storage.promotion.ledger import read_ledger
from tpu2gpu.storage.promotion.promoting import promote_model, roll_back
from tpu2gpu.storage.promotion.verdicts import EvaluationVerdict
from tpu2gpu.storage.publishing import discard_bytecode, read_manifest, verify_model
from tpu2gpu.trt_converter.layouts.kserve import POLLING

pytestmark = pytest.mark.timeout(1800)
_GRACE_S = 300.0  # half of the default: a process starts for each part, also for those of killed promotions
_SETTLE_S = 1.0  # longer than this server looks at a folder of a local disk
_POLL = (*POLLING, "--repository-poll-secs=1")  # as kserve.yaml says, and more often
_COMMAND = """
import sys
from tests.engines.test_promotion_under_load import promote
promote(*sys.argv[1:])
"""


def promote(folder: str, source: str, settle_s: float = _SETTLE_S, grace_s: float = _GRACE_S) -> None:
    """What a killed process was about to do: go back, or promote a folder."""
    if source == "back":
        roll_back(folder, keep=3, grace_s=grace_s, settle_s=settle_s)
        return
    digest = read_manifest(source)["digest"]
    verdict = EvaluationVerdict(infra_blessed=True, model_blessed=True, digest=digest, level="onnx_cpu")
    promote_model(source, folder, verdict, keep=3, grace_s=grace_s, settle_s=settle_s)


@attrs.define
class Client:
    """Asks without a pause.

    Attributes:
        failures: What went wrong.
        answers: Each answer that differs from the one before it.
        requests: How many were sent.
    """

    failures: list[str] = attrs.field(factory=list)
    answers: list[float] = attrs.field(factory=list)
    requests: int = 0

    def wait_for(self, answer: float, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not (self.answers and self.answers[-1] == answer):
            assert time.monotonic() < end, f"still {self.answers[-1:]}, not {answer}; {self.failures[:3]}"
            time.sleep(0.05)


@contextmanager
def asking(server: TritonServer) -> Iterator[Client]:
    from tritonclient import grpc

    client, stop = Client(), threading.Event()
    connection = grpc.InferenceServerClient(server.grpc_address)
    taken = grpc.InferInput("x", [1], "FP32")
    taken.set_data_from_numpy(np.zeros(1, np.float32))

    def ask() -> None:
        while not stop.is_set():
            client.requests += 1
            try:
                answer = float(connection.infer("adder", [taken]).as_numpy("y")[0])
            except Exception as error:
                client.failures.append(str(error))
                continue
            if client.answers[-1:] != [answer]:
                client.answers.append(answer)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield client
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, list[Path]]:
    """Whole and split models that add 1 to 4."""
    if reason := triton_server.fetch():
        print(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("converted")
    return {
        split: [serving_folder(folder / f"{value}-{split}", value, split=split) for value in range(1, 5)]
        for split in (False, True)
    }


def agree(folder: Path) -> None:
    """The ledger tells of every version that is there, the newest is served, and all are whole."""
    home = find_home(folder)
    versions = [record.version for record in home.versions()]
    lines = [line.version for line in read_ledger(folder)]
    assert lines == sorted(set(lines))
    assert lines[-len(versions) :] == versions
    assert home.served() == versions[-1]
    for version in versions:
        discard_bytecode(home.path / str(version))  # the server's
        verify_model(home.path / str(version))


def incumbents_value(folder: Path | str, models: list[Path]) -> int:
    """What the model adds that was promoted last."""
    incumbent = find_home(folder).incumbent()
    assert incumbent is not None
    return next(i for i, model in enumerate(models, 1) if read_manifest(model)["digest"] == incumbent.digest)


def promoted_and_rolled_back(folder: Path, models: list[Path], times: int, *, split: bool) -> None:
    factor = 2 if split else 1
    promote(str(folder), str(models[0]))
    with TritonServer(folder, *_POLL) as server, asking(server) as client:
        client.wait_for(1 * factor)
        for turn in range(times):
            if turn % 5 == 4:
                promote(str(folder), "back")
            else:
                promote(str(folder), str(models[turn % 4]))
            time.sleep(random.Random(turn).uniform(0, 1.5))
            if turn % 3 == 2:  # versions may overtake the server, but by no more than it loads within the grace
                client.wait_for(incumbents_value(folder, models) * factor)
        client.wait_for(incumbents_value(folder, models) * factor)
        print(f"{times} promotions and rollbacks, {client.requests} requests, {len(client.failures)} failed")
        assert not client.failures
        assert set(client.answers) <= {factor * value for value in range(1, 5)}  # never parts of two versions
        assert client.requests > 10 * times
    agree(folder)


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_no_request_fails_while_models_are_promoted_and_rolled_back(
    tmp_path: Path, sources: dict[bool, list[Path]], split: bool
) -> None:
    promoted_and_rolled_back(tmp_path / "promoted", sources[split], 6, split=split)


@pytest.mark.slow
@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_no_request_fails_in_fifty_promotions_and_rollbacks(
    tmp_path: Path, sources: dict[bool, list[Path]], split: bool
) -> None:
    promoted_and_rolled_back(tmp_path / "promoted", sources[split], 50, split=split)


def killed(tmp_path: Path, models: list[Path], times: int) -> None:
    folder, chance = tmp_path / "promoted", random.Random(17)
    promote(str(folder), str(models[0]))
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", _COMMAND, str(folder), str(models[1])], check=True)
    longest = time.monotonic() - began
    with TritonServer(folder, *_POLL) as server, asking(server) as client:
        client.wait_for(4)
        for turn in range(times):
            what = "back" if turn % 3 == 2 else str(models[turn % 4])
            child = subprocess.Popen([sys.executable, "-c", _COMMAND, str(folder), what], stderr=subprocess.DEVNULL)
            with suppress(subprocess.TimeoutExpired):
                child.wait(chance.uniform(0.5, 1.1) * longest)  # the first half is imports
            child.kill()
            child.wait()
            home = find_home(folder)
            served = home.served()
            assert served is not None
            verify_model(home.path / str(served))
        promote(str(folder), str(models[0]))
        promote(str(folder), str(models[2]))
        client.wait_for(6, seconds=120 + 3 * times)  # it loads the parts of the killed ones first
        print(f"{times} processes killed, {client.requests} requests, {len(client.failures)} failed")
        assert not client.failures
        assert set(client.answers) <= {2, 4, 6, 8}
    agree(folder)
    assert not list(folder.glob("*/.staging*"))


def test_a_killed_promotion_leaves_nothing_half(tmp_path: Path, sources: dict[bool, list[Path]]) -> None:
    killed(tmp_path, sources[True], 8)


@pytest.mark.slow
def test_two_hundred_killed_promotions_leave_nothing_half(tmp_path: Path, sources: dict[bool, list[Path]]) -> None:
    killed(tmp_path, sources[True], 200)
