"""Opening a model of any kind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tpu2gpu.errors import SourceError
from tpu2gpu.graphs.formats.importing_first import not_a_saved_model
from tpu2gpu.running.local.graph_def_runner import GraphDefRunner
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.running.local.serving_runner import ServingRunner
from tpu2gpu.running.runner import Runner, RunnerKind
from tpu2gpu.running.servers.addresses import Addresses
from tpu2gpu.running.servers.started import StartedRunner

RUNNERS: tuple[RunnerKind, ...] = (
    Addresses(),
    StartedRunner,
    ServingRunner,
    SavedModelRunner,
    GraphDefRunner,
    OnnxRunner,
)
"""Every kind of model; the first one that a path is of opens it."""


def open_runner(
    path: str | os.PathLike[str],
    *,
    signature: str = "serving_default",
    threads: int | None = None,
    timeout_s: float = 600.0,
    trust: Sequence[str] = (),
    unverified: bool = False,
) -> Runner:
    """Open a model of any kind; its content tells which.

    Args:
        path: A SavedModel's folder, a frozen GraphDef or its folder, an ONNX file, a serving folder that the converter
            wrote, a server's address, or a file that says how to start a server.
        signature: The signature of a SavedModel or a GraphDef; the other kinds have just one.
        threads: How many threads compute; the library's own choice when None.
        timeout_s: How long a server may take to start, and to respond to a request.
        trust: What a graph of TensorFlow may do besides computing: `files`, `network`, `python`, `custom`.
        unverified: Load files also where they are not those that the manifest beside them lists.

    Raises:
        SourceError: There is no model of a known kind there, or it is damaged.
        SignatureError: The SavedModel has no such signature.
        TrustRefusedError: It would do more than it may; nothing of it was run.
        EnvironmentLacksError: A library that the model needs is not there.
    """
    kind = _kind_of(os.fspath(path))
    if kind is None:
        raise _not_a_model(path)
    return kind.open(
        os.fspath(path),
        signature=signature,
        threads=threads,
        timeout_s=timeout_s,
        trust=trust,
        unverified=unverified,
    )


def _not_a_model(path: str | os.PathLike[str]) -> SourceError:
    error = not_a_saved_model(path, taken=model_forms())
    if "tpu2gpu import" in error.hint or "did you mean" in error.hint:
        return error
    found = "not a model" if Path(path).exists() else "no such file or folder"
    return SourceError(f"{path}: {found}", hint=f"give {model_forms()}")


def slow_imports_of(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the modules that take seconds to import, of those that `open_runner` imports for a model.

    Raises:
        SourceError: The model is a damaged serving folder.
    """
    kind = _kind_of(os.fspath(path))
    return () if kind is None else kind.slow_imports(os.fspath(path))


def _kind_of(path: str) -> RunnerKind | None:
    return next((kind for kind in RUNNERS if kind.detect(path)), None)


def model_forms() -> str:
    """Return what a model can be, for people: `a serving folder (plan.json), ... or an ONNX file`."""
    *forms, last = (kind.form for kind in RUNNERS)
    return f"{', '.join(forms)} or {last}"
