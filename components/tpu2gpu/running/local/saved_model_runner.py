"""The runner of a SavedModel's signature, in TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import SourceError, foreign_errors
from tpu2gpu.graphs.assets import ASSETS_FOLDER, check_assets
from tpu2gpu.graphs.formats.saved_model import (
    SAVED_MODEL_FILE,
    VARIABLES_FOLDER,
    VARIABLES_PREFIX,
    serving_meta_graph,
)
from tpu2gpu.graphs.signatures import input_defaults
from tpu2gpu.graphs.soundness.tensors import known_types
from tpu2gpu.graphs.trust.policy import require_trust
from tpu2gpu.graphs.trust.review import review_meta_graph
from tpu2gpu.running.examples.probes.find_domains import domains_of
from tpu2gpu.running.examples.probes.parsed_features import PARSERS
from tpu2gpu.running.local.tensorflow_runner import TensorFlowRunner
from tpu2gpu.running.runner import choose_signature
from tpu2gpu.storage.verifying import check_own
from tpu2gpu.tensorbundle.format import index_path
from tpu2gpu.tensorbundle.reader import Bundle


class SavedModelRunner(TensorFlowRunner):
    """A signature of a SavedModel, as any TensorFlow user would load it.

    Args:
        path: The folder that holds `saved_model.pb`.
        signature: Which signature.
        threads: Threads inside one operation and across operations; TensorFlow's own choice when None.
        trust: What it may do besides computing: `files`, `network`, `python`, `custom`.
        engines: Run the engines that it holds: they are those that TF-TRT built.
        unverified: Load it also where its files are not those that its manifest lists.

    Attributes:
        function: The signature as a TensorFlow function; it takes and gives tensors by name.

    Raises:
        SourceError: It is no SavedModel, or it is damaged.
        CheckpointError: Its variables are damaged.
        ManifestError: It has a manifest, and its files are not those which that lists.
        SignatureError: It has no such signature.
        UnsupportedError: The rank of an input is unknown.
        TrustRefusedError: It would do more than it may; nothing of it was run.
        UsageError: TensorFlow runs already in this process, with another number of threads.
    """

    kind = "saved_model"
    form = "a SavedModel's folder (saved_model.pb)"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        signature: str = "serving_default",
        threads: int | None = None,
        trust: Sequence[str] = (),
        engines: bool = False,
        unverified: bool = False,
    ) -> None:
        meta = review_saved_model(path, trust=trust, engines=engines, unverified=unverified)
        super().__init__(path, threads)
        import tensorflow as tf

        with foreign_errors(SourceError, f"{path}: TensorFlow cannot load it", hint="export the model again"):
            self._loaded = tf.saved_model.load(str(path), tags=sorted(meta.meta_info_def.tags))
        # Where the root object is none of tf.Module's making, TensorFlow finds none, or something of that name.
        signatures = getattr(self._loaded, "signatures", None)
        function = choose_signature(signatures if isinstance(signatures, Mapping) else {}, signature, path)
        with foreign_errors(SourceError, f"{path}: '{signature}' is no signature", hint="export the model again"):
            self._take(function, function.structured_input_signature[1], function.structured_outputs)
        records = self._record_inputs(path, signature, meta)
        defaults = _defaults(meta, signature)
        self.inputs = tuple(
            attrs.evolve(spec, takes_records=spec.name in records, default=defaults.get(spec.name))
            for spec in self.inputs
        )

    def _record_inputs(self, path: str | os.PathLike[str], signature: str, meta: Any) -> set[str]:
        """Return the inputs that the model parses as serialized tf.Examples."""
        bodies = (node for function in meta.graph_def.library.function for node in function.node_def)
        parse = any(node.op in PARSERS for node in (*meta.graph_def.node, *bodies))
        if not parse or not any(spec.dtype == "string" for spec in self.inputs):
            return set()
        return {name for name, domain in domains_of(path, signature).items() if domain.record is not None}

    @staticmethod
    def detect(path: str) -> bool:
        """Tell whether a path is a SavedModel's folder."""
        return (Path(path) / "saved_model.pb").is_file()

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
    ) -> SavedModelRunner:
        """Open a SavedModel."""
        return cls(path, signature=signature, threads=threads, trust=trust, unverified=unverified)

    def close(self) -> None:
        """Let go of the model; TensorFlow frees its variables."""
        super().close()
        self._loaded = None


def review_saved_model(
    path: str | os.PathLike[str], *, trust: Sequence[str] = (), engines: bool = False, unverified: bool = False
) -> Any:
    """Check that a SavedModel may be loaded, before anything of it is; see `SavedModelRunner`.

    Returns:
        Its MetaGraphDef for serving.
    """
    if not unverified:
        check_own(Path(path), SAVED_MODEL_FILE, VARIABLES_FOLDER, ASSETS_FOLDER)
    meta = serving_meta_graph(path)
    findings = [it for it in review_meta_graph(meta) if not (engines and it.does == "engine")]
    require_trust(findings, trust, path)
    check_assets(meta, Path(path))
    prefix = Path(path) / VARIABLES_PREFIX
    if index_path(prefix).is_file():
        _check_variables(Bundle(prefix))
    return meta


def _check_variables(bundle: Bundle) -> None:
    """Check what TensorFlow's own reader dies of; the bundle itself found that its index is not damaged."""
    unknown = [f"{key}: {it.dtype_name}" for key, it in bundle.entries.items() if it.dtype not in known_types()]
    if unknown:
        raise SourceError(
            f"{bundle.prefix}: tensors of types that this TensorFlow does not know",
            details=unknown,
            hint="export it again",
        )


def _defaults(meta: Any, signature: str) -> dict[str, Any]:
    """Return what inputs are where a request leaves them out, as plain data."""
    from tensorflow.python.framework import tensor_util

    nodes = {node.name: node for node in meta.graph_def.node}
    found = input_defaults(meta.signature_def[signature], nodes)
    return {name: _plain(tensor_util.MakeNdarray(tensor).tolist()) for name, tensor in found.items()}


def _plain(value: Any) -> Any:
    """Return lists as tuples, and bytes as text."""
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
