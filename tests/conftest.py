"""What all tests share: quiet libraries, models that are built once, and the reason where a GPU is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("calm", deadline=None)  # the first example may import TensorFlow
settings.load_profile("calm")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


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
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds a model once a session: `built(convnet, policy="float32")` -> its folder."""
    folders: dict[str, Path] = {}

    def build(builder: Callable[..., Path], *arguments: object, **options: object) -> Path:
        key = f"{builder.__module__}.{builder.__name__}{arguments}{options}"
        if key not in folders:
            folders[key] = builder(tmp_path_factory.mktemp(builder.__name__) / "model", *arguments, **options)
        return folders[key]

    return build
