"""`python -m tpu2gpu` is `tpu2gpu`: an interrupt ends it without a traceback, also while its modules are imported."""

import gc
import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130


def main() -> int:
    """Run the command that the words of this process say, and return its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background jobs ignore it
        signal.signal(signal.SIGINT, _leave)
    from tpu2gpu.cli.main import main as run

    code = run()
    sys.stdout.flush()  # an interrupt may come while the interpreter ends
    if "tensorflow" not in sys.modules:
        gc.freeze()  # nobody looks for cycles in what the end of the process frees anyway
    return code


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: nothing has begun, or all is done. An exception would end in a library's traceback, or be lost."""
    os.write(2, b"error: interrupted\n")
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
