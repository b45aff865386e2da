"""Whether a file is sound ONNX: ONNX Runtime takes some that are not, and then it is memory that it should not read."""

from __future__ import annotations

from pathlib import Path

from tpu2gpu.errors import SourceError, first_line

_MOST_BYTES = 256 << 20  # the checker holds the whole file; larger ones are those that hold their weights


def check_onnx(path: Path) -> None:
    """Let ONNX's own checker look at a file.

    Raises:
        SourceError: It is damaged.
    """
    import onnx

    if path.stat().st_size > _MOST_BYTES:
        return
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:  # ValidationError, and what its parser lets out
        # A newer ONNX, which the runtime may know; and weights that our own folders link, which were looked at already.
        if not any(word in str(error) for word in ("ir_version", "hard link")):
            raise SourceError(
                f"{path}: damaged, ONNX Runtime does not take it ({first_line(error)})", hint="write the model again"
            ) from error
