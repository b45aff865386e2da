"""Find the tensors by which the rounding of a graph is judged: its outputs, as far as they change steadily.

Where rounding can turn a choice (a sort, an arg max, a threshold), the outputs behind it jump, however small it is.
There the values are looked at that are chosen by.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tpu2gpu.graphs.edit import consumers, descendants, walk
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, producer, split_tensor
from tpu2gpu.graphs.ops import COMPARISONS, DT_FLOAT

_CHOICES = frozenset(
    """ArgMax ArgMin Bucketize Ceil CombinedNonMaxSuppression Equal Floor FloorDiv FloorMod InTopKV2 NonMaxSuppression
    NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual Rint Round Sign TopK TopKV2
    Where""".split()
) | frozenset(COMPARISONS)
_SELECTS = frozenset({"Select", "SelectV2"})


def find_observed(model: ServingModel, signature: str, narrow: Collection[str]) -> dict[str, str]:
    """Find the tensors by which the rounding of nodes is judged.

    Args:
        model: The model.
        signature: Whose outputs.
        narrow: Names of the nodes that would be rounded.

    Returns:
        The tensors by names for people: an output's, or `OUTPUT by TENSOR` for what an output is chosen by.
    """
    takers = consumers(model.nodes)
    touched = descendants(takers, [name for name in narrow if name in model.nodes])

    def sources(name: str) -> list[str]:
        return [it for it in map(producer, data_inputs(model.nodes[name])) if it in touched]

    def chosen_by(node: Any) -> list[str]:
        slots = model.ops.inputs(node) or []
        references = data_inputs(node)
        floats = [it for it, slot in zip(references, slots, strict=False) if slot.type_of(node) == DT_FLOAT]
        return [it for it in floats if producer(it) in touched]

    def is_choice(name: str) -> bool:
        node = model.nodes[name]
        if node.op == "Cast":
            return bool(node.attr["SrcT"].type == DT_FLOAT and node.attr["DstT"].type in _WHOLE)
        picks = node.op in COMPARISONS and all(it.op in _SELECTS for it, _ in takers[name])
        return node.op in _CHOICES and not picks

    observed: dict[str, str] = {}
    for output, info in sorted(model.signature(signature).outputs.items()):
        name, index = split_tensor(info.name)
        if name not in touched:
            continue
        above = list(walk([name], sources))
        choices = [it for it in above if is_choice(it) and chosen_by(model.nodes[it])]
        if not choices and info.dtype == DT_FLOAT:
            observed[output] = join_tensor(name, index)
        for choice in choices:
            if not any(it in choices for it in walk(sources(choice), sources)):
                for reference in chosen_by(model.nodes[choice]):
                    observed[f"{output} by {reference}"] = join_tensor(*split_tensor(reference))
    return observed


_WHOLE = frozenset({3, 4, 5, 6, 9, 10, 17, 22, 23})  # DataType numbers of integers and booleans
