"""What is split off answers as TensorFlow, beside a core that is converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance.case import Array, Case, ramp
from tests.conformance.judge import build, compare, split_off_because
from tests.conformance.table import cases_of
from tpu2gpu.running.loading import load
from tpu2gpu.running.serving_plan import read_plan
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions

FIRST = (
    "strings: StringToHashBucketFast StringToNumber StringLength DecodeRaw RegexFullMatch AsString StringLower",
    "strings: StringJoin RegexReplace StringSplitV2",
    "tables: LookupTableFindV2 LookupTableSizeV2",
    "randoms: StatelessMultinomial",
    "spectral: FFT IRFFT",
    "reductions: SegmentMax UnsortedSegmentMin",
    "elementwise: Lgamma Digamma",
    "resize: ResizeArea ResizeBicubic",
)
"""Of each family operations that take whatever the converter makes up for them."""

SPLIT = [(family, op) for line in FIRST for family, ops in [line.split(": ")] for op in ops.split()]


def batched(case: Case) -> bool:
    """Tell whether all that is fed has the same number of rows, as examples have; and is not in half precision."""
    arrays = list(case.fed().values())
    rows = {array.shape[0] if array.ndim else 0 for array in arrays}
    return len(rows) == 1 and min(rows) > 1 and all(array.dtype != np.float16 for array in arrays)


def beside_a_network(case: Case, folder: Path) -> dict[str, Array]:
    """Write a model of a case and a network beside it; return what TensorFlow gives for the case."""
    import tensorflow as tf

    built = build(case)
    assert not isinstance(built, str), built
    assert split_off_because(built)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(built.whole, name="")
        x = tf.compat.v1.placeholder(tf.float32, [None, 16], name="beside")
        y = tf.nn.relu(tf.matmul(x, ramp("float32", 16, 32)))
        outputs = {name: session.graph.get_tensor_by_name(tensor) for name, tensor in built.outputs.items()}
        tf.compat.v1.saved_model.simple_save(
            session,
            str(folder),
            {"beside": x, **{name: session.graph.get_tensor_by_name(tensor) for name, tensor in built.inputs.items()}},
            {"network": tf.matmul(y, ramp("float32", 32, 4)), **outputs},
            legacy_init_op=tf.group(*(node for node in session.graph.get_operations() if is_initializer(node))),
        )
    return built.wanted


def is_initializer(operation: Any) -> bool:
    return operation.type.startswith(("InitializeTable", "LookupTableImport"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("family", "op"), SPLIT)
def test_what_is_split_off_is_served_as_tensorflow_answers(family: str, op: str, tmp_path: Path) -> None:
    case = next(case for case in cases_of(family) if case.op == op and case.dynamic and batched(case))
    wanted = beside_a_network(case, tmp_path / "source")
    convert_model(tmp_path / "source", tmp_path / "serving", ConvertOptions(backend="onnx"))
    fed = case.fed()
    rows = len(next(iter(fed.values())))
    found = load(tmp_path / "serving").run({**fed, "beside": ramp("float32", rows, 16)})
    given = {name: np.asarray(found[name]) for name in wanted}
    assert compare(wanted, given).kind in ("exact", "within")
    parts = read_plan(tmp_path / "serving").parts
    assert any(part.saved_model and part.unsupported for part in parts)
