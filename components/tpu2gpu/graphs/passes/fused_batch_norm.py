"""The ops that compute a batch norm whole: how they are told, and what they take and give."""

from __future__ import annotations

from typing import Any

from tpu2gpu.graphs.nodes import data_inputs, producer

FUSED_BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
# What an optimiser of TensorFlow's makes of one and the activation behind it.
WITH_ACTIVATION = "_FusedBatchNormEx"
# What its inputs are called, but for the first, which is normalised; outputs 1 and 2 are the statistics.
WEIGHTS = {1: "gamma", 2: "beta", 3: "moving mean", 4: "moving variance"}


def is_fused_batch_norm(node: Any) -> bool:
    """Tell whether a node is a fused batch norm, with an activation or without."""
    return node.op in FUSED_BATCH_NORMS or bool(node.op == WITH_ACTIVATION)


def is_training(node: Any) -> bool:
    """Tell whether a fused batch norm normalises with the statistics of the batch, which is its op's default."""
    return "is_training" not in node.attr or bool(node.attr["is_training"].b)


def use_moving_statistics(node: Any, mean: str, variance: str) -> None:
    """Make a fused batch norm normalise with the tensors of moving statistics."""
    node.attr["is_training"].b = False
    if "exponential_avg_factor" in node.attr:
        node.attr["exponential_avg_factor"].f = 1.0
    node.input[3], node.input[4] = mean, variance


def weight_nodes(node: Any) -> list[str]:
    """Return the nodes that give gamma, beta, mean and variance."""
    return [producer(data_inputs(node)[position]) for position in WEIGHTS]
