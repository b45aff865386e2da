"""How fast and in how much memory a frozen graph is un-frozen, against the recipe that people pass on.

The recipe: import the graph, make a variable of every constant's value, import the graph once more with the variables
in the constants' places, initialise, save. A dense model of 500 MB; every way runs in a process of its own, libraries
loaded before; the ways take turns. Read ratios, not seconds.

    python -m tests.benchmarks unfreeze [--reduced]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.benchmarks.bench_freeze import LAYERS, WIDTH
from tests.benchmarks.measuring import compare, measured, print_table

GOAL_OF_RECIPE = 3.0
WAYS = {
    "ours": "unfreeze_model: SavedModel and checkpoint",
    "recipe": "the recipe: checkpoint alone",
    "recipe_and_model": "the recipe, and a SavedModel",
}


def prepare() -> None:
    """Loads the libraries before anything is measured."""
    import tensorflow as tf

    import tpu2gpu.graphs.passes.freezing.unfreeze_constants
    import tpu2gpu.unfreezer.unfreezing

    assert tf and tpu2gpu


def make_frozen(folder: str, width: str, layers: str) -> None:
    from tests.benchmarks.bench_freeze import make_model
    from tpu2gpu.freezer.freezing import freeze_model
    from tpu2gpu.freezer.options import FreezeOptions

    make_model(f"{folder}.model", width, layers)
    freeze_model(f"{folder}.model", folder, FreezeOptions(format="graph_def"))


def ours(source: str, target: str) -> None:
    from tpu2gpu.unfreezer.unfreezing import unfreeze_model

    unfreeze_model(source, target)


def recipe(source: str, target: str, *, with_model: bool = False) -> None:
    """Source: https://stackoverflow.com/a/46358461, with today's names: `import_graph_def` and its `input_map`."""
    import json

    import tensorflow as tf

    v1 = tf.compat.v1
    graph_def = v1.GraphDef.FromString((Path(source) / "frozen_graph.pb").read_bytes())
    names = json.loads((Path(source) / "signature.json").read_text())["signatures"]["serving_default"]
    weights = [node.name for node in graph_def.node if node.op == "Const" and node.attr["dtype"].type == 1]
    with tf.Graph().as_default(), v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        values = dict(zip(weights, session.run([f"{name}:0" for name in weights]), strict=True))
    Path(target).mkdir()
    with tf.Graph().as_default() as graph, v1.Session() as session:
        placeholders, variables = {}, {}
        for name, value in values.items():
            placeholders[name] = v1.placeholder(value.dtype, value.shape)
            variables[name] = v1.Variable(placeholders[name], name=name, use_resource=True)
        tf.import_graph_def(graph_def, {f"{name}:0": it.value() for name, it in variables.items()}, name="model")
        for name, variable in variables.items():
            session.run(variable.initializer, {placeholders[name]: values[name]})
        v1.train.Saver().save(session, f"{target}/model.ckpt", write_meta_graph=False)
        if with_model:
            tensors = {
                side: {key: graph.get_tensor_by_name(f"model/{name}") for key, name in names[side].items()}
                for side in ("inputs", "outputs")
            }
            v1.saved_model.simple_save(session, f"{target}/saved", tensors["inputs"], tensors["outputs"])


def recipe_and_model(source: str, target: str) -> None:
    recipe(source, target, with_model=True)


def main(*, reduced: bool = False, rounds: int = 3) -> None:
    """Measures all ways and prints a table; reduced: 64 MB, once."""
    layers, rounds = (4, 1) if reduced else (LAYERS, rounds)
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "frozen", Path(name) / "unfrozen"
        measured("tests.benchmarks.bench_unfreeze:make_frozen", str(source), str(WIDTH), str(layers))
        median = compare("tests.benchmarks.bench_unfreeze", WAYS, source, target, rounds=rounds)
    mine = median["ours"]
    print(f"{layers * WIDTH**2 * 4 / 1e6:.0f} MB, medians of {rounds}")
    print_table(WAYS, median)
    ratio = median["recipe_and_model"]["wall_s"] / mine["wall_s"]
    reached = ratio >= GOAL_OF_RECIPE
    print(f"{'reached' if reached else 'MISSED '}  at least {GOAL_OF_RECIPE:g} times faster than recipe and model")


if __name__ == "__main__":
    main()
