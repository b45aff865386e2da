"""What the tests of the images share: the image, and a container's answer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from tests.container.engine import DOCKER, docker


@pytest.fixture(scope="session")
def image() -> str:
    """The image's name; `tests/container/run` builds it."""
    name = os.environ.get("TPU2GPU_IMAGE", "tpu2gpu:cpu")
    if shutil.which(DOCKER) is None or docker("image", "inspect", name, check=False).returncode:
        pytest.skip(f"no image {name} here: tests/container/run builds it")
    return name


@pytest.fixture(scope="session")
def run(image: str) -> Callable[..., str]:
    """Runs a command in a container of the image, and returns what it printed."""
    return lambda *command: docker("run", "--rm", image, *command).stdout
