"""Where the words of a run go: TFX's and ours to a file, ours to the user as well."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_OURS = "tpu2gpu"


@contextmanager
def logging_to(path: Path, tell: Callable[[str], None], *, verbose: bool) -> Iterator[None]:
    """Send all log records to a file while the block runs.

    Args:
        path: The file.
        tell: Told what our own steps log about how far they are.
        verbose: Send all to standard error too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    root, ours, absl = logging.getLogger(), logging.getLogger(_OURS), logging.getLogger("absl")
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s"))
    progress_handler = _ProgressHandler(tell)
    before = root.handlers[:], ours.level, absl.level
    # Whoever logs first gives the root logger a handler to standard error, unless it has one.
    root.handlers[:] = [file, logging.StreamHandler()] if verbose else [file]
    ours.setLevel(logging.INFO)
    absl.setLevel(logging.INFO)
    ours.addHandler(progress_handler)
    try:
        yield
    finally:
        ours.removeHandler(progress_handler)
        root.handlers[:] = before[0]
        ours.setLevel(before[1])
        absl.setLevel(before[2])
        file.close()


class _ProgressHandler(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:
            self._tell(record.getMessage())
