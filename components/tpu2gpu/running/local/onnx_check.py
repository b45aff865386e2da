"""Whether a file is sound ONNX: ONNX Runtime takes some that are not, and then it is memory that it should not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tpu2gpu.errors import SourceError, first_line

_MOST_BYTES = 256 << 20  # the checker holds the whole file; larger ones are those that hold their weights
_NEWER = "is higher than the checker's"
_LINKED = "hard link"  # weights that our own folders link, which were looked at already


def check_onnx(path: Path) -> None:
    """Let ONNX's own checker look at a file.

    Raises:
        SourceError: It is damaged.
    """
    import onnx

    if path.stat().st_size > _MOST_BYTES:
        return
    try:
        try:
            onnx.checker.check_model(str(path))
        except onnx.checker.ValidationError as error:
            if not any(excused in str(error) for excused in (_NEWER, _LINKED)):
                raise
            onnx.checker.check_model(_without_excuses(path))  # it stopped there, and looked at nothing else
    except Exception as error:  # ValidationError, and what its parser lets out
        raise SourceError(
            f"{path}: damaged, ONNX Runtime does not take it ({first_line(error)})", hint="write the model again"
        ) from error


def _without_excuses(path: Path) -> Any:
    """Read a model as one of a version that the checker knows, without the weights that are in other files."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    model.ir_version = min(model.ir_version, int(onnx.IR_VERSION))
    for tensor in model.graph.initializer:
        if onnx.external_data_helper.uses_external_data(tensor):
            tensor.CopyFrom(onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0]))
    return model
