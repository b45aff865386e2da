"""TensorFlow's protos and op definitions without TensorFlow, whose import takes seconds."""

from __future__ import annotations

import functools
import importlib
import lzma
import sys
import types
from importlib import metadata, util
from pathlib import Path
from typing import Any

_PROTOS = (
    "tensorflow.core.example.example_pb2",
    "tensorflow.core.framework.graph_pb2",
    "tensorflow.core.framework.op_def_pb2",
    "tensorflow.core.framework.tensor_pb2",
    "tensorflow.core.protobuf.meta_graph_pb2",
    "tensorflow.core.protobuf.saved_model_pb2",
    "tensorflow.core.protobuf.saved_object_graph_pb2",
    "tensorflow.core.protobuf.saver_pb2",
    "tensorflow.core.protobuf.struct_pb2",
    "tensorflow.core.protobuf.tensor_bundle_pb2",
    "tensorflow.core.protobuf.trackable_object_graph_pb2",
)
_OPS = Path(__file__).parent / "op_defs"  # made of each world's TensorFlow; see the test of this module


def load_protos() -> None:
    """Load the modules of TensorFlow's protos, which need none of its code, past the package that would load it all.

    Whoever imports TensorFlow afterwards gets all of it, with these modules in it.
    """
    found = None if "tensorflow" in sys.modules else util.find_spec("tensorflow")
    if found is None or not found.submodule_search_locations:
        return
    package = types.ModuleType("tensorflow")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["tensorflow"] = package
    try:
        for name in _PROTOS:
            importlib.import_module(name)
    finally:
        del sys.modules["tensorflow"]


def registered_op(name: str) -> Any | None:
    """Return the definition of an op of the installed TensorFlow, None of one that it does not know.

    Where TensorFlow is not loaded, and its version's definitions are kept here, it stays so.
    """
    if "tensorflow" not in sys.modules and (kept := _kept_ops()) is not None:
        return kept.get(name)
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(name)


@functools.cache
def _kept_ops() -> dict[str, Any] | None:
    try:
        version = ".".join(metadata.version("tensorflow").split(".")[:2])
    except metadata.PackageNotFoundError:  # of another name, such as tensorflow-cpu
        return None
    path = _OPS / f"{version}.pb.xz"
    if not path.is_file():
        return None
    from tensorflow.core.framework import op_def_pb2

    return {op.name: op for op in op_def_pb2.OpList.FromString(lzma.decompress(path.read_bytes())).op}
