"""The Python bindings of TensorRT's two families, and their log."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import attrs

from tpu2gpu.errors import EnvironmentLacksError


@attrs.frozen
class Library:
    """A family of TensorRT. Neither loads the engines of the other.

    Attributes:
        name: What options, plans and reports call it.
        title: What NVIDIA calls it.
        module: The module of its bindings.
        package: What to install.
    """

    name: str
    title: str
    module: str
    package: str


RTX = Library("tensorrt_rtx", "TensorRT-RTX", "tensorrt_rtx_bindings", "tensorrt-rtx-cu12-bindings")
"""Builds without a GPU, for several kinds of GPU at once."""

DATA_CENTER = Library("tensorrt", "TensorRT", "tensorrt", "tensorrt")
"""Builds on a GPU, for that GPU; Triton loads what it builds."""

LIBRARIES = {library.name: library for library in (RTX, DATA_CENTER)}


def import_bindings(library: Library) -> ModuleType:
    """Import the bindings of a family.

    Raises:
        EnvironmentLacksError: They are not installed, or their library cannot be loaded.
    """
    try:
        return importlib.import_module(library.module)
    except (ImportError, OSError) as error:
        raise EnvironmentLacksError(
            f"{library.title} cannot be used here ({error})",
            hint=f"install {library.package} and its library, on Linux x86-64",
        ) from error


def load_plugins(trt: ModuleType, logger: Any) -> None:
    """Load the plugins that NVIDIA ships beside TensorRT: engines with EfficientNMS_TRT need them."""
    if load := getattr(trt, "init_libnvinfer_plugins", None):
        load(logger, "")


def listening_logger(trt: ModuleType) -> Any:
    """Make a logger for the bindings that keeps warnings and errors.

    Its `messages` are (severity, text) pairs. Build errors reach nothing but a logger: the calls only return None.
    """

    class ListeningLogger(trt.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING:
                self.messages.append((severity.name.lower(), message.strip()))

        def errors(self) -> list[str]:
            return [text for severity, text in self.messages if severity != "warning"]

        def warnings(self) -> list[str]:
            return sorted({text for severity, text in self.messages if severity == "warning"})

    return ListeningLogger()
