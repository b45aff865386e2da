"""What the tests of the images share: the image, and a container's answer."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.container.engine import docker


@pytest.fixture(scope="session")
def image() -> str:
    """The image's name."""
    name = os.environ.get("TPU2GPU_IMAGE")
    if not name:
        pytest.skip("no image: tests/container/run builds one and runs these tests")
    return name


@pytest.fixture(scope="session")
def run(image: str) -> Callable[..., str]:
    """Runs a command in a container of the image, and returns what it printed."""
    return lambda *command: docker("run", "--rm", image, *command).stdout
