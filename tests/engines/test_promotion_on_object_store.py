"""A real Triton that polls an object store never fails a request while models are promoted and rolled back there."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import triton_server
from tests.engines.test_promotion_under_load import asking, incumbents_value, promote
from tests.engines.triton_server import TritonServer
from tests.models.object_store import BUCKET, ObjectStoreServer, object_store
from tests.models.serving_folders import serving_folder
from tpu2gpu.storage.promotion.home import find_home
from tpu2gpu.storage.publishing import verify_model
from tpu2gpu.trt_converter.layouts.kserve import POLLING

pytestmark = pytest.mark.timeout(1800)
# This server asks for every object, each time: on a busy machine a look may take half a minute, and loading more.
_SETTLE_S, _GRACE_S = 30.0, 300.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    if reason := triton_server.fetch():
        print(reason)
        pytest.skip(reason)
    with object_store(tmp_path_factory.mktemp("s3") / "server.log") as server:
        yield server


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_no_request_fails_while_models_come_and_go_in_a_bucket(
    store: ObjectStoreServer, tmp_path: Path, split: bool
) -> None:
    factor = 2 if split else 1
    models = [serving_folder(tmp_path / str(value), value, split=split) for value in range(1, 5)]
    folder = f"s3://{BUCKET}/promoted-{'split' if split else 'whole'}"
    promote(folder, str(models[0]))
    repository = f"s3://{store.address}/{folder.removeprefix('s3://')}"
    with TritonServer(repository, *POLLING, "--repository-poll-secs=1") as server, asking(server) as client:
        client.wait_for(1 * factor)
        for turn in range(6):
            promote(folder, "back" if turn % 3 == 2 else str(models[(turn + 1) % 4]), _SETTLE_S, _GRACE_S)
            time.sleep(random.Random(turn).uniform(0, 1.5))
            client.wait_for(incumbents_value(folder, models) * factor)
        print(f"6 promotions and rollbacks, {client.requests} requests, {len(client.failures)} failed")
        assert not client.failures
        assert set(client.answers) <= {factor * value for value in range(1, 5)}  # never parts of two versions
    served = find_home(folder).served()
    verify_model(f"{folder}/adder/{served}")
