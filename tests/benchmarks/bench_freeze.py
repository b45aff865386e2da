"""How fast and in how much memory a model is frozen, against TensorFlow's two freezers and a plain copy of its weights.

A dense model of 500 MB is frozen to a GraphDef. Every way runs in a process of its own, libraries loaded before; the
ways take turns. Read ratios, not seconds.

    python -m tests.benchmarks freeze [--reduced]
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.benchmarks.measuring import compare, measured, print_table

WIDTH, LAYERS = 2048, 31  # of 16 MiB each
GOALS = {"v2": 15.0, "session": 3.0}
GOAL_OF_MEMORY, GOAL_OF_COPY = 20.0, 1.5
WAYS = {
    "ours": "freeze_model, with the manifest's digests",
    "ours_alone": "the same without manifest and digests",
    "v2": "convert_variables_to_constants_v2",
    "session": "TensorFlow 1's session freezer",
    "copy": "a copy of the variables' file",
}


def prepare() -> None:
    """Loads the libraries before anything is measured."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    import tpu2gpu.freezer.freezing
    import tpu2gpu.graphs.formats.saved_model

    assert tf and convert_to_constants and tpu2gpu


def make_model(folder: str, width: str, layers: str) -> None:
    """Writes the model: `x` [?, width] through `layers` matrices of [width, width]."""
    import tensorflow as tf

    size, module = int(width), tf.Module()
    generator = tf.random.Generator.from_seed(1)
    module.kernels = [tf.Variable(generator.normal([size, size]) / size**0.5) for _ in range(int(layers))]

    @tf.function(input_signature=[tf.TensorSpec([None, size], tf.float32, name="x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        for kernel in module.kernels:
            x = tf.nn.relu(tf.matmul(x, kernel))
        return {"y": x}

    tf.saved_model.save(module, folder, signatures=serve)


def ours(source: str, target: str) -> None:
    from tpu2gpu.freezer.freezing import freeze_model
    from tpu2gpu.freezer.options import FreezeOptions

    freeze_model(source, target, FreezeOptions(format="graph_def"))


def ours_alone(source: str, target: str) -> None:
    from tpu2gpu.graphs.formats.graph_def import write_graph_def
    from tpu2gpu.graphs.formats.saved_model import read_saved_model
    from tpu2gpu.graphs.passes.freezing.freeze_variables import FreezeVariables

    model = read_saved_model(source)
    FreezeVariables().run(model)
    Path(target).mkdir()
    write_graph_def(model, target)


def v2(source: str, target: str) -> None:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    loaded = tf.saved_model.load(source)
    frozen = convert_variables_to_constants_v2(loaded.signatures["serving_default"])
    Path(target).mkdir()
    tf.io.write_graph(frozen.graph.as_graph_def(), target, "frozen_graph.pb", as_text=False)


def session(source: str, target: str) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as running:
        meta = v1.saved_model.load(running, ["serve"], source)
        outputs = [info.name.split(":")[0] for info in meta.signature_def["serving_default"].outputs.values()]
        frozen = v1.graph_util.convert_variables_to_constants(running, graph.as_graph_def(), outputs)
    Path(target).mkdir()
    tf.io.write_graph(frozen, target, "frozen_graph.pb", as_text=False)


def copy(source: str, target: str) -> None:
    """Read and write, as every way must; not the kernel's copy_file_range, which may copy nothing at all."""
    Path(target).mkdir()
    for path in (Path(source) / "variables").glob("*.data-*"):
        with path.open("rb") as before, (Path(target) / path.name).open("wb") as after:
            shutil.copyfileobj(before, after, 8 << 20)


def main(*, reduced: bool = False, rounds: int = 3) -> None:
    """Measures all ways and prints a table; reduced: 64 MB, once."""
    layers, rounds = (4, 1) if reduced else (LAYERS, rounds)
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "model", Path(name) / "frozen"
        measured("tests.benchmarks.bench_freeze:make_model", str(source), str(WIDTH), str(layers))
        median = compare("tests.benchmarks.bench_freeze", WAYS, source, target, rounds=rounds)
    mine = median["ours"]
    print(f"{layers * WIDTH**2 * 4 / 1e6:.0f} MB, medians of {rounds}")
    print_table(WAYS, median)
    goals = {
        f"at least {factor:g} times faster than {WAYS[way]}": median[way]["wall_s"] / mine["wall_s"] >= factor
        for way, factor in GOALS.items()
    }
    less = median["v2"]["anon_mib"] / max(mine["anon_mib"], 1.0)
    goals[f"at most 1/{GOAL_OF_MEMORY:g} of v2's memory"] = less >= GOAL_OF_MEMORY
    of_copy = mine["wall_s"] / median["copy"]["wall_s"]
    goals[f"at most {GOAL_OF_COPY:g} times a copy ({of_copy:.2f})"] = of_copy <= GOAL_OF_COPY
    for goal, reached in goals.items():
        print(f"{'reached' if reached else 'MISSED '}  {goal}")


if __name__ == "__main__":
    main()
