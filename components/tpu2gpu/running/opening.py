"""Opening a model of any kind."""

from __future__ import annotations

import os
from pathlib import Path

from tpu2gpu.errors import SourceError
from tpu2gpu.graphs.formats.graph_def import FROZEN_GRAPH_FILE
from tpu2gpu.running.runner import Runner
from tpu2gpu.running.servers.addresses import FORMS, is_address
from tpu2gpu.running.servers.server_file import is_server_file
from tpu2gpu.running.serving_plan import PLAN

_ONNX_FIRST_BYTE = b"\x08"  # the key of ir_version, which every writer of ONNX files puts first
_GRAPH_DEF_FIRST_BYTE = b"\x0a"  # the key of the first node


def open_runner(
    path: str | os.PathLike[str],
    *,
    signature: str = "serving_default",
    threads: int | None = None,
    timeout_s: float = 600.0,
) -> Runner:
    """Open a model of any kind; what it is, its content tells.

    Args:
        path: A SavedModel's folder, a frozen GraphDef or its folder, an ONNX file, a serving folder that the converter
            wrote, a server's address, or a file that says how to start a server.
        signature: The signature of a SavedModel or a GraphDef; the other kinds have just one.
        threads: How many threads compute; the library's own choice when None.
        timeout_s: How long a server may take to start, and to answer a request.

    Raises:
        SourceError: There is no model of a known kind there, or it is damaged.
        SignatureError: The SavedModel has no such signature.
        EnvironmentLacksError: A library that the model needs is not there.
    """
    if is_address(path):
        from tpu2gpu.running.servers.opening import open_address

        return open_address(str(path), signature=signature, timeout_s=timeout_s)
    if is_server_file(path):
        from tpu2gpu.running.servers.started import StartedRunner

        return StartedRunner(path, signature=signature, timeout_s=timeout_s)
    path = Path(path)
    if (path / PLAN).is_file():
        from tpu2gpu.running.local.serving_runner import ServingRunner

        return ServingRunner(path, threads=threads)
    if (path / "saved_model.pb").is_file():
        from tpu2gpu.running.local.saved_model_runner import SavedModelRunner

        return SavedModelRunner(path, signature=signature, threads=threads)
    if (graph := graph_def_file(path)) is not None:
        from tpu2gpu.running.local.graph_def_runner import GraphDefRunner

        return GraphDefRunner(graph, signature=signature, threads=threads)
    if path.is_file() and _starts_with(path, _ONNX_FIRST_BYTE):
        from tpu2gpu.running.local.onnx_runner import OnnxRunner

        return OnnxRunner(path, threads=threads)
    raise SourceError(
        f"{path}: {'not a model' if path.exists() else 'no such file or folder'}",
        hint="give a SavedModel's folder (saved_model.pb), a frozen GraphDef, a serving folder (plan.json), an ONNX "
        f"file, a server's address ({FORMS}) or a server file (.yaml)",
    )


def graph_def_file(path: str | os.PathLike[str]) -> Path | None:
    """The file of a frozen GraphDef, where `path` is one or the folder of one."""
    file = Path(path) / FROZEN_GRAPH_FILE if Path(path).is_dir() else Path(path)
    return file if file.is_file() and _starts_with(file, _GRAPH_DEF_FIRST_BYTE) else None


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic
