"""Time and memory of an import, a cast and a served model as their input grows: `python -m tests.benchmarks growth`.

CPU seconds, which other processes on the machine do not change much, and the most anonymous memory. The slope is that
of the logarithms: 1 where twice the input takes twice the time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.measuring import measured
from tests.models.tensorflow_serving import FEATURES, served_model

CHAIN = (25_000, 50_000, 100_000)  # nodes
FUNCTIONS = (1_250, 2_500, 5_000)  # one in the other
VARIABLES = (2_500, 5_000, 10_000)
CHECKPOINT_GB = (5, 10, 20)
REQUESTS = (10_000, 100_000, 1_000_000)
_SETTLED = 1_000  # requests


def main(*, reduced: bool = False) -> None:
    growing(CHAIN, "nodes in a chain", build_chain, "import_it", reduced=reduced)
    growing(FUNCTIONS, "nested functions", build_functions, "import_it", reduced=reduced)
    growing(VARIABLES, "variables", build_variables, "import_it", reduced=reduced)
    growing(CHECKPOINT_GB, "GB of a checkpoint", build_checkpoint, "cast_it", reduced=reduced)
    requests(REQUESTS[: 1 if reduced else None])


def growing(
    sizes: Sequence[int], of: str, build: Callable[[int, Path], None], step: str, *, reduced: bool = False
) -> dict[int, dict[str, float]]:
    """Measure a step on inputs of growing sizes, and print its figures with their slopes."""
    found: dict[int, dict[str, float]] = {}
    for size in sizes[: 1 if reduced else None]:
        with tempfile.TemporaryDirectory(prefix="growth-") as folder:
            build(size, Path(folder))
            found[size] = measured(f"tests.benchmarks.bench_growth:{step}", folder)
        figures = found[size]
        print(f"{size:>9,} {of:20s} {figures['cpu_s']:8.2f} s of CPU {figures['anon_mib']:8.0f} MiB", flush=True)
    if len(found) > 1:
        slopes = {key: slope([(size, one[key]) for size, one in found.items()]) for key in ("cpu_s", "anon_mib")}
        print(f"{'':9s} {of:20s} slopes: time {slopes['cpu_s']:.2f}, memory {slopes['anon_mib']:.2f}", flush=True)
    return found


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Fit a power: 1 is linear."""
    logarithms = np.log([(size, max(value, 1e-9)) for size, value in points])
    return float(np.polyfit(logarithms[:, 0], logarithms[:, 1], 1)[0])


def prepare() -> None:
    """What both steps need before the clock starts."""
    import tpu2gpu.checkpoint_importer.importing
    import tpu2gpu.checkpoint_importer.reading
    import tpu2gpu.precision_caster.casting  # noqa: F401


def import_it(folder: str) -> None:
    from tpu2gpu.checkpoint_importer.importing import import_model

    import_model(Path(folder) / "model", Path(folder) / "out")


def cast_it(folder: str) -> None:
    from tpu2gpu import CastOptions, cast_checkpoint

    cast_checkpoint(Path(folder) / "model.ckpt", Path(folder) / "out", CastOptions(to="bfloat16"))


def build_chain(size: int, folder: Path) -> None:
    """A graph of so many operations, one after the other."""
    graph, node = _graph()
    for number in range(size):
        node = _add(graph.node, f"relu{number}", "Relu", node.name)
    _save(folder, graph, node.name)


def build_functions(size: int, folder: Path) -> None:
    """Functions of which each calls the next."""
    graph, node = _graph()
    for number in range(size):
        function = graph.library.function.add()
        function.signature.name = f"f{number}"
        for argument, side in (("a", function.signature.input_arg), ("r", function.signature.output_arg)):
            side.add(name=argument, type=1)
        relu = _add(function.node_def, "relu", "Relu", "a")
        last, output = relu, "relu:activations:0"
        if number + 1 < size:
            last = _add_call(function.node_def, f"f{number + 1}", "relu:activations:0")
            output = f"{last.name}:output:0"
        function.ret["r"] = output
    _save(folder, graph, _add_call(graph.node, "f0", node.name).name)


def build_variables(size: int, folder: Path) -> None:
    """A sum of so many variables, with their checkpoint."""
    from tpu2gpu.graphs.formats.saver import add_saver
    from tpu2gpu.graphs.model import Variable
    from tpu2gpu.tensorbundle.writer import BundleWriter

    graph, node = _graph()
    (folder / "model").mkdir()
    with BundleWriter(folder / "model" / "variables" / "variables") as writer:
        for number in range(size):
            name = f"v{number:05}"
            handle = graph.node.add(name=name, op="VarHandleOp")
            handle.attr["dtype"].type = 1
            handle.attr["shape"].shape.dim.add(size=4)
            handle.attr["shared_name"].s = name.encode()
            read = graph.node.add(name=f"{name}/read", op="ReadVariableOp", input=[name])
            read.attr["dtype"].type = 1
            node = _add(graph.node, f"add{number}", "AddV2", node.name, read.name)
            writer.add_array(name, np.full(4, number, np.float32))

    def save(meta: Any) -> None:
        names = [f"v{number:05}" for number in range(size)]
        add_saver(meta, {name: Variable(name, name, 1, (4,)) for name in names})

    _save(folder, graph, node.name, save)


def build_checkpoint(gigabytes: int, folder: Path) -> None:
    """A checkpoint of so many gigabytes whose files are holes: all values are 0."""
    from tpu2gpu.tensorbundle.writer import BundleWriter

    zeros = memoryview(bytes(1 << 24))
    with BundleWriter(folder / "model.ckpt", shard_bytes=1 << 30) as writer:
        for number in range(4 * gigabytes):
            writer.add(f"weights{number:03}", 1, (250, 1000, 250), _pieces(zeros, 250_000_000))
            for path in folder.glob("*"):  # give the blocks back, so that the disk is not filled
                subprocess.run(["fallocate", "--dig-holes", str(path)], check=True)


def _pieces(piece: memoryview, size_bytes: int) -> Iterator[memoryview]:
    for start in range(0, size_bytes, len(piece)):
        yield piece[: min(len(piece), size_bytes - start)]


def requests(counts: Sequence[int]) -> None:
    """Send requests to a served model through the gRPC runner, and watch this process's memory.

    The server answers at once: what grows is the runner.
    """
    from tpu2gpu.running.opening import open_runner

    with tempfile.TemporaryDirectory() as folder:
        runner = open_runner(_answering(Path(folder)))
        feeds = {"x": np.zeros((1, FEATURES), np.float32)}
        sent, before, begun = 0, 0.0, time.process_time()
        for count in counts:
            while sent < count:
                runner.run(feeds)
                sent += 1
                if sent == _SETTLED:
                    before = _anonymous_mib()
            spent, more = time.process_time() - begun, _anonymous_mib() - before
            print(f"{sent:>9,} {'requests':20s} {spent:8.2f} s of CPU {more:+8.2f} MiB since the 1,000th", flush=True)
        runner.close()


def _answering(folder: Path) -> str:
    """Write a server file of a server of TensorFlow Serving's protocol, in a process of its own."""
    served_model(folder / "model")
    command = f"{sys.executable} -m tests.models.tensorflow_serving {{model}} digits {{grpc_port}} {{port}}"
    lines = [f"command: {command}", "address: tfserving+grpc://127.0.0.1:{grpc_port}/digits", "model: model"]
    (folder / "server.yaml").write_text("\n".join([*lines, "start_s: 400"]) + "\n")
    return str(folder / "server.yaml")


def _anonymous_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def _graph() -> tuple[Any, Any]:
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef()
    graph.versions.producer = 1882
    node = graph.node.add(name="x", op="Placeholder")
    node.attr["dtype"].type = 1
    node.attr["shape"].shape.dim.add(size=-1)
    node.attr["shape"].shape.dim.add(size=4)
    return graph, node


def _add(nodes: Any, name: str, op: str, *inputs: str) -> Any:
    node = nodes.add(name=name, op=op, input=inputs)
    node.attr["T"].type = 1
    return node


def _add_call(nodes: Any, function: str, argument: str) -> Any:
    node = nodes.add(name="call", op="PartitionedCall", input=[argument])
    node.attr["f"].func.name = function
    node.attr["Tin"].list.type.append(1)
    node.attr["Tout"].list.type.append(1)
    return node


def _save(folder: Path, graph: Any, output: str, change: Callable[[Any], None] = lambda meta: None) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = saved_model.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.graph_def.CopyFrom(graph)
    change(meta)
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for infos, key, name in ((signature.inputs, "x", "x"), (signature.outputs, "y", output)):
        infos[key].name, infos[key].dtype = f"{name}:0", 1
        infos[key].tensor_shape.dim.add(size=-1)
        infos[key].tensor_shape.dim.add(size=4)
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "saved_model.pb").write_bytes(saved_model.SerializeToString())
