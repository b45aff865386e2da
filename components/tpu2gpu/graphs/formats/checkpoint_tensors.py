"""What the tensors of a checkpoint are: weights, or what only training needs; and how their variables are called."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

from tpu2gpu.errors import CheckpointError, foreign_errors
from tpu2gpu.tensorbundle.checkpoint import Checkpoint
from tpu2gpu.tensorbundle.format import OBJECT_GRAPH_KEY

SHADOW = "/ExponentialMovingAverage"
_STEP = re.compile(r"(.*/)?global_step|.*iterations_per_loop|save_counter.*|.*beta\d_power(_\d+)?")
_SLOT = re.compile(
    r".*/(Momentum|Adam|AdamW|RMSProp|Adagrad|AdagradDA|Adadelta|Ftrl|LAMB|LARS|adam_[mv]|.*Optimizer)(_\d+)?"
)
# What Keras 2 calls an optimizer's own numbers, and its slots, in a graph.
_KERAS_STEP = re.compile(r"(training(_\d+)?/)?\w+/(iter|beta_\d|decay|learning_rate|momentum|rho)")
_KERAS_SLOT = re.compile(r"(?:training(?:_\d+)?/)?\w+?/(?P<owner>.+)/\w+")
_OBJECT_PART = "/.ATTRIBUTES/"


def kind_of_tensor(key: str, bundle: Checkpoint) -> str:
    """Return `slots`, `shadows` or `steps` for what only training needs, nothing for a weight.

    A slot is called like the variable that it belongs to, with its own name behind (in Keras 2 the optimizer's in
    front, too), and has its shape.
    """
    if key.endswith(SHADOW) or key.removesuffix("_1").endswith(SHADOW):
        return "shadows"
    if _STEP.fullmatch(key) or (_KERAS_STEP.fullmatch(key) and not bundle.entry(key).shape):
        return "steps"
    if "/.OPTIMIZER_SLOT/" in key or _SLOT.fullmatch(key) or re.match(r"(.*/)?_?optimizer/", key):
        return "slots"
    found = _KERAS_SLOT.fullmatch(key)
    owners = [key.rpartition("/")[0], found["owner"] if found else ""]
    if any(owner in bundle and bundle.entry(owner).shape == bundle.entry(key).shape for owner in owners):
        return "slots"
    return ""


def object_graph(bundle: Checkpoint) -> Any | None:
    """Read the TrackableObjectGraph of an object-based checkpoint; None for any other checkpoint.

    Raises:
        CheckpointError: It is damaged.
    """
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    if OBJECT_GRAPH_KEY not in bundle:
        return None
    with foreign_errors(CheckpointError, f"{bundle.prefix}: its object graph is damaged", hint="save it again"):
        return trackable_object_graph_pb2.TrackableObjectGraph.FromString(bundle.read(OBJECT_GRAPH_KEY).item())


def object_names(bundle: Checkpoint) -> dict[str, str]:
    """Return for each tensor of an object-based checkpoint the full name of its variable, where that is known."""
    graph = object_graph(bundle)
    nodes = () if graph is None else graph.nodes
    return {it.checkpoint_key: it.full_name for node in nodes for it in node.attributes if it.full_name}


def variable_name(key: str) -> str:
    """Return the variable's name in a key of an object-based checkpoint; any other key as it is."""
    return key.partition(_OBJECT_PART)[0]


def tensors_by_name(
    bundle: Checkpoint, name_of: Callable[[str], str], dropped: Collection[str]
) -> dict[str, list[str]]:
    """Return for each name the tensors so called: weights, or where there are none one of what training needs.

    Args:
        bundle: The checkpoint.
        name_of: The name of a tensor's variable, by the tensor's key.
        dropped: Tensors to leave out.
    """
    weights: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for key in bundle:
        if key != OBJECT_GRAPH_KEY and key not in dropped:
            (others if kind_of_tensor(key, bundle) else weights).setdefault(name_of(key), []).append(key)
    return {**{name: keys[-1:] for name, keys in others.items()}, **weights}
