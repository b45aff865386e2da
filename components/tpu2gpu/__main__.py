"""`python -m tpu2gpu` is `tpu2gpu`: an interrupt ends it without a traceback, also while its modules are imported."""

import gc
import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130


def main() -> int:
    """Run the command that the words of this process say, and return its exit code."""
    _open_standard_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background jobs ignore it
        signal.signal(signal.SIGINT, _leave)
    from tpu2gpu.cli.main import main as run

    code = run()
    try:
        sys.stdout.flush()  # an interrupt may come while the interpreter ends
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a full disk, which the exit code tells
        code = code or 4
    if "tensorflow" not in sys.modules:
        gc.freeze()  # nobody looks for cycles in what the end of the process frees anyway
    return code


def _open_standard_streams() -> None:
    """Open nothing where a standard stream is closed: the next file that is opened would become it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: nothing has begun, or all is done. An exception would end in a library's traceback, or be lost."""
    os.write(2, b"error: interrupted\n")
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
