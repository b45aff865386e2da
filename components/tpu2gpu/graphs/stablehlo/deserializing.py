"""A serialized module as text, by TensorFlow's own reader: native code, in a child process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tpu2gpu.errors import EnvironmentLacksError, UnsupportedError, WorkerDiedError, foreign_errors
from tpu2gpu.graphs.stablehlo.artifact import ModuleHead
from tpu2gpu.process.worker import run_in_child
from tpu2gpu.storage.unfinished import scratch

_TIMEOUT_S = 600.0
_VERSION_HINT = "import it where TensorFlow is as new as what exported it (Python 3.11 and newer get TensorFlow 2.21)"
_SHARDY = b"\0sdy\0"  # the dialect's name, among the strings of the bytecode
_SHARDY_HINT = (
    "it holds shardings of Shardy (the dialect sdy), which this reader does not know: export without shardings, or "
    "after jax.config.update('jax_use_shardy_partitioner', False)"
)


def deserialize(modules: Sequence[bytes], heads: Sequence[ModuleHead]) -> list[str]:
    """Return the text of each module.

    Args:
        modules: The serialized modules.
        heads: What is known of each, for messages.

    Raises:
        UnsupportedError: This TensorFlow does not read one, most often as it is older than what wrote it.
        EnvironmentLacksError: TensorFlow has no reader, or its process hung.
    """
    with scratch() as folder:
        for place, module in enumerate(modules):
            (folder / f"{place}.mlir.bc").write_bytes(module)
        try:
            run_in_child(
                "tpu2gpu.graphs.stablehlo.deserializing:write_texts",
                {"folder": str(folder), "names": [str(head) for head in heads]},
                name="reading StableHLO",
                environment={"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
                preload=("tensorflow",),
                timeout_s=_TIMEOUT_S,
            )
        except WorkerDiedError as error:
            raise UnsupportedError(
                "TensorFlow died of reading the StableHLO modules", details=[*map(str, heads), *error.details]
            ) from error
        return [(folder / f"{place}.mlir").read_text(encoding="utf-8") for place in range(len(modules))]


def write_texts(folder: str, names: Sequence[str]) -> None:
    """Write the text of every module in a folder beside it; run in the child.

    Raises:
        UnsupportedError: One cannot be read.
        EnvironmentLacksError: TensorFlow has no reader.
    """
    for place, name in enumerate(names):
        module = (Path(folder) / f"{place}.mlir.bc").read_bytes()
        with foreign_errors(
            UnsupportedError,
            f"{name}: TensorFlow {_tensorflow_version()} (StableHLO {_stablehlo_version()}) cannot read the module",
            hint=hint_for(module),
            let_pass=(EnvironmentLacksError,),
        ):
            text = _text(module)
        (Path(folder) / f"{place}.mlir").write_text(text, encoding="utf-8")


def hint_for(module: bytes) -> str:
    """Return the way out where a module cannot be read."""
    return _SHARDY_HINT if _SHARDY in module else _VERSION_HINT


def _text(module: bytes) -> str:
    try:
        from tensorflow.compiler.mlir.stablehlo import stablehlo
        from tensorflow.python import pywrap_mlir
    except ImportError as error:
        raise EnvironmentLacksError("this TensorFlow has no reader of StableHLO", hint="install TensorFlow") from error
    read = getattr(stablehlo, "deserialize_portable_artifact_str", None) or stablehlo.deserialize_portable_artifact
    try:
        found = read(module)
    except SystemError as error:  # of a call that returned in spite of its error
        raise (error.__cause__ or error) from None
    encoded = found if isinstance(found, bytes) else found.encode()
    return str(pywrap_mlir.ExperimentalRunPassPipeline(encoded, b"inline", False))


def _tensorflow_version() -> str:
    import tensorflow as tf

    return str(tf.__version__)


def _stablehlo_version() -> str:
    from tensorflow.compiler.mlir.stablehlo import stablehlo

    return str(stablehlo.get_current_version())
