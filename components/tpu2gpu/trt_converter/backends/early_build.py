"""An engine that is built while the ONNX file is still compared with its source."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.trt_converter.request import MOST_BYTES

Built = tuple[dict[str, Any], int]
"""What is known of an engine, and its builder's peak memory."""


class EarlyBuild:
    """Builds of the files that a conversion tells of: of the last one alone, and only until it is refused.

    Args:
        plan: Makes what a build of a file takes of what is known of it; may refuse it.
        build: Builds the engine, until the event is set.
        engine: The file that it writes.
    """

    def __init__(
        self,
        plan: Callable[[Mapping[str, Any]], dict[str, Any]],
        build: Callable[[dict[str, Any], threading.Event], Built],
        engine: Path,
    ) -> None:
        self._plan, self._build, self._engine = plan, build, engine
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._running: tuple[dict[str, Any], Future[Built], threading.Event] | None = None

    def start(self, written: Mapping[str, Any]) -> None:
        """Begin to build the engine of a file that stands, in the place of a former one."""
        self.stop()
        if written["size_bytes"] > MOST_BYTES:
            return
        with suppress(Tpu2GpuError):  # the conversion itself comes to what is wrong, and says so
            arguments, event = self._plan(written), threading.Event()
            self._running = arguments, self._pool.submit(self._build, arguments, event), event

    def take(self, arguments: Mapping[str, Any]) -> Built | None:
        """Wait for the build that takes just these arguments; None where there is no such one.

        Raises:
            Tpu2GpuError: It failed.
        """
        if self._running is None or self._running[0] != arguments:
            self.stop()
            return None
        running, self._running = self._running, None
        return running[1].result()

    def stop(self) -> None:
        """End a build that nobody waits for, and remove what it wrote."""
        if self._running is None:
            return
        _, build, event = self._running
        self._running = None
        event.set()
        build.exception()  # waits for the end
        shutil.rmtree(self._engine.parent, ignore_errors=True)

    def __enter__(self) -> EarlyBuild:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._pool.shutdown()
