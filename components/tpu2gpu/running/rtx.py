"""TensorRT-RTX's Python bindings: importing them, and hearing what they say."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from tpu2gpu.errors import EnvironmentLacksError

PACKAGE = "tensorrt-rtx-cu12-bindings"


def import_rtx() -> ModuleType:
    """The bindings.

    Raises:
        EnvironmentLacksError: They are not installed, or their library cannot be loaded.
    """
    try:
        import tensorrt_rtx_bindings as trt
    except (ImportError, OSError) as error:
        raise EnvironmentLacksError(
            f"TensorRT-RTX cannot be used here ({error})",
            way_out=f"install {PACKAGE} and its library, on Linux x86-64",
        ) from error
    module: ModuleType = trt
    return module


def listening_logger(trt: ModuleType) -> Any:
    """A logger for the bindings that keeps warnings and errors.

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
