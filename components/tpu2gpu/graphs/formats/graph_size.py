"""Tell how large a frozen graph would be, and which weights to leave out of it where that is too large."""

from __future__ import annotations

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.describing import size_bytes
from tpu2gpu.graphs.formats.graph_def import model_graph_pieces
from tpu2gpu.graphs.formats.streaming import size_of
from tpu2gpu.graphs.model import ServingModel

# What stands around each weight: its names and shape, and for a variable the ops that save and restore it.
_AROUND_BYTES = 1 << 10


def graph_size_bytes(model: ServingModel) -> int:
    """Return the bytes of a model's GraphDef, with the constants that are streamed into it."""
    return size_of(model_graph_pieces(model, model.nodes.values()))


def too_large(model: ServingModel, max_bytes: int) -> list[str]:
    """Return which variables must stay for the frozen graph of the others to fit: as few as possible, the largest.

    Args:
        model: A model whose variables are still variables.
        max_bytes: How large the graph may be.
    """
    sizes = {name: size_bytes(variable) for name, variable in model.variables.items()}
    # Functions that capture variables are written twice at most, and stay once.
    around = graph_size_bytes(model) + sum(_AROUND_BYTES + 4 * len(name) for name in sizes)
    around += sum(function.ByteSize() for function in model.functions.values())
    kept = []
    total = around + sum(sizes.values())
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if total <= max_bytes:
            break
        kept.append(name)
        total -= sizes[name]
    return kept


def check_graph_size(model: ServingModel, max_bytes: int) -> None:
    """Check that a frozen graph is not too large, before anything of it is written.

    Raises:
        UnsupportedError: It is; the largest weights are listed with their sizes.
    """
    total = graph_size_bytes(model)
    if total > max_bytes:
        sizes = {name: size_bytes(variable) for name, variable in model.constants.items()}
        sizes |= {
            name: node.ByteSize() for name, node in model.nodes.items() if node.op == "Const" and name not in sizes
        }
        largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:5]
        raise UnsupportedError(
            f"the frozen graph would have {total} bytes, {max_bytes} are allowed",
            details=[f"{name}: {sizes[name]} bytes" for name in largest],
            hint="keep the largest weights as variables with --split-weights",
        )
