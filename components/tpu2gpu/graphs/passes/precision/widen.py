"""Make a graph that computes in a narrow type compute in float32."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs

from tpu2gpu.graphs.edit import add
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import join_tensor, split_tensor
from tpu2gpu.graphs.ops import DT_FLOAT
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.passes.precision.retype import cast_tensor, remove_idle_casts, signature_tensors
from tpu2gpu.tensorbundle import format


@attrs.frozen
class Widen(Pass):
    """Make everything that computes in a narrow type compute in float32, and remove casts that became idle.

    Variables change too; their values are cast when the model is written. The change is `widened_nodes`, a count.

    Attributes:
        types: DataType numbers of the types to leave.
        keep_signature: Leave the types of inputs and outputs as they are, with casts behind and before them.
    """

    types: Collection[int]
    keep_signature: bool = False

    def run(self, model: ServingModel) -> Changes:
        """Change the types of nodes, bodies of control flow, variables and signatures."""
        if not self.types:
            return {"widened_nodes": 0}
        promised = [(info, info.dtype) for dtype in self.types for info in signature_tensors(model, dtype)]
        changed = sum(self._widen_node(node) for node in model.nodes.values())
        for function in model.functions.values():
            for argument in [*function.signature.input_arg, *function.signature.output_arg]:
                if argument.type in self.types:
                    argument.type = DT_FLOAT
                for handle in argument.handle_data:
                    if handle.dtype in self.types:
                        handle.dtype = DT_FLOAT
            changed += sum(self._widen_node(node) for node in function.node_def)
        infos = model.infos("inputs", "outputs")
        for typed in [*model.variables.values(), *model.constants.values(), *infos]:
            if typed.dtype in self.types:
                typed.dtype = DT_FLOAT
        if self.keep_signature:
            _keep_promises(model, promised)
        remove_idle_casts(model)
        return {"widened_nodes": changed}

    def summary(self, changes: Changes) -> list[str]:
        """Tell how many nodes left a narrow type."""
        names = " and ".join(format.DTYPE_NAMES[dtype] for dtype in sorted(self.types))
        return [f"makes {changes['widened_nodes']} {names} nodes float32"] if changes["widened_nodes"] else []

    def _widen_node(self, node: Any) -> bool:
        changed = False
        for value in node.attr.values():
            kind = value.WhichOneof("value")
            if kind == "type" and value.type in self.types:
                value.type, changed = DT_FLOAT, True
            elif kind == "list":
                for position, dtype in enumerate(value.list.type):
                    if dtype in self.types:
                        value.list.type[position], changed = DT_FLOAT, True
            elif kind == "tensor" and value.tensor.dtype in self.types:
                cast_tensor(value.tensor, DT_FLOAT)
                changed = True
        return changed


def _keep_promises(model: ServingModel, promised: list[tuple[Any, int]]) -> None:
    """Give inputs and outputs of signatures their former types back."""
    casts: dict[tuple[str, int], str] = {}
    inputs = {split_tensor(name)[0] for name in model.input_tensors()}
    for info, dtype in promised:
        info.dtype = dtype
        name, index = split_tensor(info.name)
        node = model.nodes[name]
        if name in inputs and node.op == "Placeholder":
            if (name, dtype) not in casts:
                cast = add(model.nodes, f"{name}/to_float32", "Cast", [""], SrcT=dtype, DstT=DT_FLOAT)
                casts[name, dtype] = cast.name
                model.replace_all_uses({name: cast.name})
                node.attr["dtype"].type = dtype
                cast.input[0] = name
        elif (info.name, dtype) not in casts:
            wanted, reference = f"{name}/to_{format.DTYPE_NAMES[dtype]}", join_tensor(name, index)
            casts[info.name, dtype] = add(model.nodes, wanted, "Cast", [reference], SrcT=DT_FLOAT, DstT=dtype).name
        if (info.name, dtype) in casts:
            info.name = f"{casts[info.name, dtype]}:0"
