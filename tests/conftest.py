"""What all tests share: quiet libraries, models that are built once, and the reason where a GPU is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.models.cache import ModelCache

settings.register_profile("calm", deadline=None)  # the first example may import TensorFlow
settings.load_profile("calm")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Child processes take no modules from the current folder, and tests let them call functions of theirs.
_HERE = str(Path(__file__).parents[1])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_HERE, os.environ.get("PYTHONPATH")]))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in ("engines", "container"):  # real servers, clusters and images take minutes
            item.add_marker(pytest.mark.slow)
    if shutil.which("nvidia-smi") is None:
        skip = pytest.mark.skip(reason="no NVIDIA GPU on this machine")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Callable[..., Path]:
    """Build a model once, and keep it for the next session: `built(convnet, policy="float32")` -> its folder."""
    cache = ModelCache(pytestconfig.rootpath / "build" / "models", tmp_path_factory.mktemp("models"))
    cache.remove_old()
    return cache.get


@pytest.fixture
def deep_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for more folders within each other than Python or pytest could remove."""
    folder = tmp_path / "deep"
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)
