"""The runner of the reference: a SavedModel with the same weights, computed by TensorFlow in float32.

TensorFlow computes float16 on a CPU with an error that is 8 to 100 times that of the converted models it would judge,
and slowly. So the weights are widened, and so is every operation; inputs and outputs keep their types. oneDNN, whose
fusions come to 2e-3, is switched off by the environment of the process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tpu2gpu.errors import Tpu2GpuError, first_line
from tpu2gpu.graphs.assets import ASSETS_FOLDER
from tpu2gpu.graphs.formats.saved_model import (
    SAVED_MODEL_FILE,
    VARIABLES_FOLDER,
    read_saved_model,
    write_saved_model,
)
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.ops import DT_BFLOAT16, DT_HALF
from tpu2gpu.graphs.passes.precision.widen import Widen
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.storage.unfinished import scratch
from tpu2gpu.storage.verifying import check_own
from tpu2gpu.tensorbundle.format import DTYPE_NAMES

_NARROW = (DT_HALF, DT_BFLOAT16)


class ReferenceRunner(SavedModelRunner):
    """A signature of a SavedModel, computed in float32 where it computes in a narrower type.

    Args:
        path: The folder that holds `saved_model.pb`.
        signature: Which signature.
        threads: Threads inside one operation and across operations; TensorFlow's own choice when None.
        trust: What it may do besides computing.
        unverified: Load it also where its files are not those that its manifest lists.

    Attributes:
        widened: The types that it left for float32; none where the source computes in float32 or wider.
        computes: How it computes, for people.

    Raises:
        SourceError: It is no SavedModel, or it is damaged.
        SignatureError: It has no such signature.
        UnsupportedError: The rank of an input is unknown.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        signature: str = "serving_default",
        threads: int | None = None,
        trust: Sequence[str] = (),
        unverified: bool = False,
    ) -> None:
        if not unverified:
            check_own(Path(path), SAVED_MODEL_FILE, VARIABLES_FOLDER, ASSETS_FOLDER)
        self._threads = threads
        self.widened: tuple[str, ...] = ()
        self.computes = "the source"
        try:
            model = read_saved_model(path)
            found = narrow_types(model)
            if found:
                model.keep_signatures([signature])
                self._load_widened(Path(path), signature, model, found, trust)
                return
        except (Tpu2GpuError, ValueError) as error:  # what TensorFlow itself loads may be more
            self.computes = f"the source, as it is: its graph cannot be widened ({first_line(error)})"
        super().__init__(path, signature=signature, threads=threads, trust=trust, unverified=True)  # checked above

    def _load_widened(
        self, path: Path, signature: str, model: ServingModel, types: list[int], trust: Sequence[str]
    ) -> None:
        Widen(types, keep_signature=True).run(model)
        with scratch() as folder:
            write_saved_model(model, folder, trust=trust)
            super().__init__(folder, signature=signature, threads=self._threads, trust=trust)
        self._path = path
        self.widened = tuple(DTYPE_NAMES[dtype] for dtype in types)
        self.computes = f"the source, widened from {' and '.join(self.widened)} to float32"


def narrow_types(model: ServingModel) -> list[int]:
    """Return the types narrower than float32 in which a model computes, as DataType numbers."""
    bodies = (node for function in model.functions.values() for node in function.node_def)
    used = {variable.dtype for variable in [*model.variables.values(), *model.constants.values()]}
    for node in [*model.nodes.values(), *bodies]:
        for value in node.attr.values():
            used.add(value.type)
            used.update(value.list.type)
    return [dtype for dtype in _NARROW if dtype in used]
