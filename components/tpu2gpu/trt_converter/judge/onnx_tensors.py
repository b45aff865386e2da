"""Tensors inside an ONNX file, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tpu2gpu.running.arrays import Array
from tpu2gpu.running.local.onnx_runner import OnnxRunner

_PROBE_FILE = ".judged.onnx"  # beside the file, whose weights may lie there


class OnnxTensors:
    """The tensors of an ONNX file's graph; those of the bodies of loops and branches are not among them.

    Args:
        path: The ONNX file.

    Attributes:
        names: Their names.
    """

    def __init__(self, path: Path) -> None:
        import onnx

        self._path = path
        self._model = onnx.load(str(path), load_external_data=False)
        self._outputs = [value.name for value in self._model.graph.output]
        self.names = {name for node in self._model.graph.node for name in node.output if name}

    def fetch(self, names: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the file, and return tensors of it.

        Args:
            names: Their names.
            feeds: The inputs, by ONNX names.
        """
        import onnx

        probed = onnx.ModelProto()
        probed.CopyFrom(self._model)
        probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in self._outputs)
        file = self._path.with_name(self._path.name + _PROBE_FILE)
        try:
            file.write_bytes(probed.SerializeToString())
            found = OnnxRunner(file, providers=["CPUExecutionProvider"], fuse=False, check=False).run(feeds)
        finally:
            file.unlink(missing_ok=True)
        return {name: found[name] for name in names}
