"""Choose outputs where none are named: the logits before the loss of training, and what is predicted from them."""

from __future__ import annotations

from typing import Any

from tpu2gpu.errors import SignatureError
from tpu2gpu.graphs.edit import Consumers
from tpu2gpu.graphs.nodes import join_tensor
from tpu2gpu.graphs.passes.training.candidate_outputs import (
    REGRESSION,
    belongs_to_loss,
    candidate_outputs,
    is_loss,
    single_end,
)
from tpu2gpu.graphs.passes.training.rewriter import Rewriter

# What an Estimator's model_fn makes of its logits, and what its signatures call that.
_PREDICTIONS = {"Softmax": "probabilities", "Sigmoid": "probabilities", "ArgMax": "classes"}
_REDUCTIONS = ("Sum", "Mean", "Neg")
_BETWEEN = ("Identity", "Cast", "Reshape", "Neg")


def choose_outputs(graph: Rewriter) -> dict[str, str]:
    """Return the tensor that goes into the loss, when there is one loss, and what is predicted from it, by name.

    Without any loss it is the single end of the graph.

    Raises:
        SignatureError: There is no known loss and more than one end, or there are several losses.
    """
    found: dict[str, str] = {}
    following = graph.consumers()
    for node in graph.nodes.values():
        if not is_loss(node) and not _is_written_out(graph, node, following):
            continue
        source, index = graph.skip_passthrough(node.input[0], {"Identity", "StopGradient"})
        while belongs_to_loss(source, node):
            source, index = graph.skip_passthrough(source.input[0], {"Identity", "StopGradient"})
        found.setdefault(join_tensor(source.name, index), node.name)
    if len(found) == 1:
        [(tensor, loss)] = found.items()
        return {"predictions" if REGRESSION.fullmatch(loss) else "logits": tensor, **_predictions(graph, tensor)}
    if found:
        raise SignatureError(
            f"the graph has {len(found)} losses, so its outputs cannot be told",
            details=[f"{tensor}: goes into {loss}" for tensor, loss in found.items()],
            hint="choose with --output NAME=TENSOR",
        )
    if end := single_end(graph.nodes):
        return {end.rpartition("/")[2]: end}
    likely = candidate_outputs(graph.nodes.values())
    raise SignatureError(
        "the graph has no loss that is known, so its outputs cannot be told",
        details=likely[:20],
        hint="name them with --output NAME=TENSOR" + ("; these are likely" if likely else ""),
    )


def _predictions(graph: Rewriter, logits: str) -> dict[str, str]:
    """Return probabilities and classes that the graph makes of the logits, where it does so in one way only."""
    found: dict[str, dict[tuple[str, str], str]] = {}
    for node in graph.nodes.values():
        if node.op not in _PREDICTIONS or node.name.startswith("gradients"):
            continue
        source, index = graph.skip_passthrough(node.input[0], {"Identity", "StopGradient", "Cast"})
        if join_tensor(source.name, index) == logits:
            way = (node.op, str(graph.constant(node.input[1])) if node.op == "ArgMax" else "")
            found.setdefault(_PREDICTIONS[node.op], {}).setdefault(way, node.name)
    return {name: next(iter(ways.values())) for name, ways in found.items() if len(ways) == 1}


def _is_written_out(graph: Rewriter, node: Any, following: Consumers) -> bool:
    """Tell whether a LogSoftmax is a cross entropy written out, as BERT's: times one-hot labels, and summed up."""
    if node.op != "LogSoftmax" or node.name.startswith("gradients"):
        return False
    products = [it for it, _ in following.get(node.name, ()) if it.op == "Mul" and not it.name.startswith("gradients")]
    for product in products:
        sources = [graph.skip_passthrough(reference, _BETWEEN)[0] for reference in graph.inputs(product)]
        summed = any(it.op in _REDUCTIONS for it, _ in following.get(product.name, ()))
        if summed and any(source.op == "OneHot" for source in sources):
            return True
    return False
