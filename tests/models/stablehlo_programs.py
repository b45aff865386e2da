"""Programs of StableHLO in a test: written as text, lowered, and run by TensorFlow."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tpu2gpu.graphs.edit import new_node
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.ops import DT_FLOAT
from tpu2gpu.graphs.stablehlo.lower_module import Lowered, lower_module


def lowered(*lines: str, form: str = "2x6") -> Lowered:
    """Lower a function of %x, a tensor<2x6xf32> where no other form is given."""
    node = new_node("jax", "XlaCallModule", ["x"])
    node.attr["Tin"].list.type.append(DT_FLOAT)
    node.attr["module"].s = b"a module"
    model = ServingModel(
        {"x": new_node("x", "Placeholder", dtype=DT_FLOAT)}, {}, {}, {}, OpDefs(), None, "", [], None, ""
    )
    head = f"module @m {{\nfunc.func public @main(%x: tensor<{form}xf32>) -> (tensor<f32>) {{\n"
    return lower_module(model, node, head + "\n".join(lines) + "\n}\n}")


def run(x: np.ndarray, *lines: str, form: str = "2x6") -> np.ndarray:
    """Lower a function of %x, and return what it makes of a value."""
    found = lowered(*lines, form=form)
    graph = tf.compat.v1.GraphDef(node=[new_node("x", "Placeholder", dtype=DT_FLOAT), *found.nodes.values()])
    graph.library.function.extend(found.functions.values())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph, name="")
        return np.asarray(session.run(f"{found.outputs[0]}:0", {"x:0": x}))
