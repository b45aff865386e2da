"""The runner of a frozen GraphDef, in TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tpu2gpu.errors import SourceError, foreign_errors
from tpu2gpu.graphs.assets import ASSETS_FOLDER
from tpu2gpu.graphs.formats.graph_def import FROZEN_GRAPH_FILE, read_graph_def
from tpu2gpu.graphs.trust.policy import require_trust
from tpu2gpu.graphs.trust.review import review_model
from tpu2gpu.running.local.tensorflow_runner import TensorFlowRunner
from tpu2gpu.running.runner import choose_signature
from tpu2gpu.storage.verifying import check_own

_FIRST_BYTE = b"\x0a"  # the key of the first node


class GraphDefRunner(TensorFlowRunner):
    """A frozen graph; its inputs and outputs come from the `signature.json` beside it, or from its structure.

    Args:
        path: The file, or its folder.
        signature: Which signature.
        threads: Threads inside one operation and across operations; TensorFlow's own choice when None.
        trust: What it may do besides computing: `files`, `network`, `python`, `custom`.
        unverified: Load it also where it is not the one that the manifest beside it lists.

    Raises:
        SourceError: TensorFlow does not take the graph.
        ManifestError: It is not the one that the manifest beside it lists.
        SignatureError: It has no such signature.
        UnsupportedError: The rank of an input is unknown.
        TrustRefusedError: It would do more than it may; nothing of it was run.
        UsageError: TensorFlow runs already in this process, with another number of threads.
    """

    kind = "graph_def"
    form = "a frozen GraphDef"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        signature: str = "serving_default",
        threads: int | None = None,
        trust: Sequence[str] = (),
        unverified: bool = False,
    ) -> None:
        path = graph_def_file(path) or Path(path)
        if not unverified:
            check_own(path.parent, path.name, ASSETS_FOLDER)
        model = read_graph_def(path)
        names = choose_signature(model.signatures, signature, path)
        require_trust(review_model(model), trust, path)
        super().__init__(path, threads)
        import tensorflow as tf

        graph = model.graph_def()
        with foreign_errors(SourceError, f"{path}: TensorFlow cannot load it", hint="freeze the model again"):
            imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
            inputs, outputs = (
                {key: imported.graph.get_tensor_by_name(info.name) for key, info in infos.items()}
                for infos in (names.inputs, names.outputs)
            )
            pruned = imported.prune(list(inputs.values()), outputs)
        self._take(lambda **feeds: pruned(*(feeds[name] for name in inputs)), inputs, outputs)

    @staticmethod
    def detect(path: str) -> bool:
        """Tell whether a path is a frozen GraphDef, or the folder of one."""
        return graph_def_file(path) is not None

    @classmethod
    def open(
        cls,
        path: str,
        *,
        signature: str,
        threads: int | None,
        timeout_s: float,
        trust: Sequence[str] = (),
        unverified: bool = False,
    ) -> GraphDefRunner:
        """Open a frozen GraphDef."""
        return cls(path, signature=signature, threads=threads, trust=trust, unverified=unverified)


def graph_def_file(path: str | os.PathLike[str]) -> Path | None:
    """Return the file of a frozen GraphDef, where `path` is one or the folder of one."""
    file = Path(path) / FROZEN_GRAPH_FILE if Path(path).is_dir() else Path(path)
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        return file if opened.read(1) == _FIRST_BYTE else None
