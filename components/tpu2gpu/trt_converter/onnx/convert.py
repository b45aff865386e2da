"""SavedModel -> ONNX.

It runs in a process of its own: the names that tf2onnx invents depend on what ran before in the same process.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import ConversionError, SignatureError, UsageError, first_line, foreign_errors
from tpu2gpu.process.judging import JUDGE_ENVIRONMENT, JUDGE_PRELOAD
from tpu2gpu.running.comparison.tolerances import conversion_tolerance
from tpu2gpu.running.examples.probes.find_domains import domains_of
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.running.local.reference_runner import ReferenceRunner
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner, review_saved_model
from tpu2gpu.running.runner import Runner, TensorSpec
from tpu2gpu.trt_converter.early_answers import AnsweredReference
from tpu2gpu.trt_converter.feeds import DEFAULT_EXAMPLES, feeds_for, saved_feeds
from tpu2gpu.trt_converter.judge.coverage import not_exercised
from tpu2gpu.trt_converter.judge.verdict import Sides, Verdicts
from tpu2gpu.trt_converter.onnx.deterministic import make_deterministic
from tpu2gpu.trt_converter.onnx.external_data import (
    PROTOBUF_LIMIT_BYTES,
    OnnxModel,
    convert_without_values,
    write_model,
)
from tpu2gpu.trt_converter.onnx.freeze import FrozenGraph, check_types, frozen_graph
from tpu2gpu.trt_converter.onnx.handlers.emulated_quantization import FATES
from tpu2gpu.trt_converter.onnx.handlers.suppression import SUPPRESSIONS, write_suppressions
from tpu2gpu.trt_converter.onnx.idle_int8 import drop_idle_int8
from tpu2gpu.trt_converter.onnx.names import output_names
from tpu2gpu.trt_converter.onnx.op_handlers import register_handlers
from tpu2gpu.trt_converter.onnx.optimisers import OptimiserFailedError, mend_transposes, optimise_in_place
from tpu2gpu.trt_converter.onnx.rewriters import failed_rewriters, guarded_rewriters
from tpu2gpu.trt_converter.onnx.validate import check_onnx, check_operations, describe_onnx
from tpu2gpu.trt_converter.parity import compare_models, compare_outputs
from tpu2gpu.trt_converter.profiles import Profile, fit_profiles

ENVIRONMENT, PRELOAD = JUDGE_ENVIRONMENT, JUDGE_PRELOAD


def convert(
    *,
    source: str,
    signature: str,
    opset: int,
    onnx_path: str,
    reference_folder: str,
    sizes: list[dict[str, Any]],
    examples: list[str],
    reading: Mapping[str, Any],
    limit: int = DEFAULT_EXAMPLES,
    given: str = "",
    limit_bytes: int = PROTOBUF_LIMIT_BYTES,
    profiles: list[Profile] | None = None,
    trust: Sequence[str] = (),
    tolerance: float | None = None,
    written: Callable[[dict[str, Any]], None] | None = None,
    answers: str | None = None,
) -> dict[str, Any]:
    """Convert, validate and compare with TensorFlow; the arguments and the result are plain data.

    Args:
        source: The SavedModel's folder.
        signature: Which signature.
        opset: The version of ONNX's operations.
        onnx_path: The file to write.
        reference_folder: Where to leave the feeds and TensorFlow's outputs.
        sizes: What to compare at, see `feeds_for`.
        examples: Files of examples to compare on; synthetic inputs when empty.
        reading: How examples are read, see `Reading.to_json`.
        limit: Read no more examples than this.
        given: A folder of feeds to compare on, in place of all those.
        limit_bytes: How large the file may be; its weights get a file of their own beyond.
        profiles: What the inputs must fit, before anything is converted.
        trust: What the model may do besides computing.
        tolerance: The largest relative error allowed; the default for the model's type when not given.
        written: Told what the file holds when it stands, before it is compared.
        answers: The folder of the source's outputs, see `early_answers`.

    Raises:
        SourceError: The source is no sound SavedModel.
        SignatureError: It has no such signature, or the signature no outputs.
        ConversionError: ONNX, tf2onnx or ONNX Runtime does not take the model; operations are listed.
        UsageError: The profiles do not fit the inputs.
    """
    started = time.perf_counter()
    review_saved_model(source, trust=trust)

    @cache
    def load() -> ReferenceRunner:
        return ReferenceRunner(source, signature=signature, trust=trust, unverified=True)  # as reviewed above

    def load_unchanged() -> SavedModelRunner:
        return SavedModelRunner(source, signature=signature, trust=trust) if load().widened else load()

    frozen = frozen_graph(source, signature, load_unchanged, limit_bytes=limit_bytes)
    if not frozen.outputs or not frozen.inputs:
        raise SignatureError(f"{source}: the signature '{signature}' has no inputs or no outputs")
    told = bool(frozen.input_specs) and all(spec.ranked for spec in frozen.input_specs)
    if profiles is not None:
        fit_profiles(frozen.input_specs if told else load().inputs, profiles)
    check_types(frozen)
    names = onnx_names(frozen.inputs, frozen.outputs)
    model, complaints = to_onnx(frozen, names, opset)
    check_operations(model.proto, complaints)
    _name_batch(model.proto)
    size_bytes = write_model(model, Path(onnx_path), limit_bytes=limit_bytes)
    check_onnx(model.proto, Path(onnx_path))
    described = {**describe_onnx(model.proto), "emulated_quantisation": model.quantised}
    about = {"onnx_names": names, **described, "size_bytes": size_bytes}
    if written is not None and told:  # before TensorFlow loads the model, which takes its time
        written({**about, **_specs_to_json(frozen.input_specs, frozen.output_specs)})
    reference = AnsweredReference(None if answers is None else Path(answers), load)
    candidate = _open(onnx_path, reference, names)
    about |= _specs_to_json(reference.inputs, reference.outputs)
    converted = time.perf_counter()
    if given:
        feeds = saved_feeds(Path(given))
    else:
        domains = domains_of(source, signature)
        feeds = feeds_for(
            reference.inputs, sizes=sizes, examples=examples, reading=reading, domains=domains, limit=limit
        )
    verdicts = Verdicts(
        Sides(
            source=source,
            signature=signature,
            trust=trust,
            reference=reference,
            onnx_path=Path(onnx_path),
            names=names,
            tolerance=conversion_tolerance(described["weights_dtype"]) if tolerance is None else tolerance,
            compare=compare_outputs,
        )
    )
    find_missed = None if given else partial(not_exercised, source, signature, trust=trust)
    with foreign_errors(ConversionError, "ONNX Runtime does not run the converted model"):
        parity = compare_models(
            reference, candidate, names, feeds, Path(reference_folder), verdicts.settle, find_missed
        )
    return {
        "signature": signature,
        **about,
        "outputs": [spec.with_rank(parity["observed_ranks"][spec.name]).to_json() for spec in reference.outputs],
        "reference": reference.computes,
        **parity,
        "findings": verdicts.findings,
        "conversion_s": converted - started,
        "parity_s": time.perf_counter() - converted,
        "versions": _versions(),
    }


def _specs_to_json(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, Any]:
    return {"inputs": [spec.to_json() for spec in inputs], "outputs": [spec.to_json() for spec in outputs]}


def onnx_names(inputs: Iterable[str], outputs: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the ONNX names of inputs and outputs: their own, but for an output that is named like an input."""
    kept = {name: name for name in sorted(inputs)}
    return {"inputs": kept, "outputs": output_names(kept, sorted(outputs))}


def to_onnx(frozen: FrozenGraph, names: Mapping[str, Mapping[str, str]], opset: int) -> tuple[OnnxModel, list[str]]:
    """Let tf2onnx convert a graph.

    Returns:
        The ONNX model, which may be unsound, and what tf2onnx complained of: it does not fail, it only logs.

    Raises:
        ConversionError: tf2onnx gave up.
        UsageError: tf2onnx does not know the opset.
    """
    import tf2onnx
    from tf2onnx.schemas import get_max_supported_opset_version

    if opset > (newest := get_max_supported_opset_version()):
        raise UsageError(f"--opset {opset}: tf2onnx {tf2onnx.__version__} knows opsets up to {newest}")
    register_handlers()
    make_deterministic()
    mend_transposes()
    renamed = {tensor: names["inputs"][name] for name, tensor in frozen.inputs.items()}
    renamed.update({tensor: names["outputs"][name] for name, tensor in frozen.outputs.items()})
    ends: dict[str, Any] = {
        "input_names": list(frozen.inputs.values()),
        "output_names": list(frozen.outputs.values()),
        "opset": opset,
        "tensors_to_rename": renamed,
    }
    left_out: set[str] = set()
    in_place = True
    while True:
        complaints = _Complaints()
        try:
            with guarded_rewriters(left_out), complaints.heard(), optimise_in_place() if in_place else nullcontext():
                model = _converted(frozen, ends, complaints)
        except OptimiserFailedError:
            in_place = False
            continue
        except ConversionError:
            model = None
            if not failed_rewriters(complaints.texts) - left_out:
                raise
        if model is not None and not failed_rewriters(complaints.texts) - left_out:
            return model, complaints.texts
        left_out |= failed_rewriters(complaints.texts)


def _converted(frozen: FrozenGraph, ends: Mapping[str, Any], complaints: _Complaints) -> OnnxModel:
    import tf2onnx

    fates: dict[str, str] = {}
    suppressions: dict[str, dict[str, Any]] = {}
    token, collecting = FATES.set(fates), SUPPRESSIONS.set(suppressions)
    try:
        with foreign_errors(
            ConversionError,
            "tf2onnx cannot convert the model",
            details=complaints.texts,
            let_pass=OptimiserFailedError,
        ):
            if frozen.values:
                model = convert_without_values(frozen.graph_def, dict(frozen.values), **ends)
            else:
                model = OnnxModel(tf2onnx.convert.from_graph_def(frozen.graph_def, name="model", **ends)[0])
    finally:
        FATES.reset(token)
        SUPPRESSIONS.reset(collecting)
    write_suppressions(model.proto, suppressions)
    idle = drop_idle_int8(model.proto.graph)
    fates |= dict.fromkeys(idle & fates.keys(), "what these weights are multiplied with stays in floating point")
    return attrs.evolve(model, quantised=fates)


_HANDLER = re.compile(r" \(fct=.*")


class _Complaints(logging.Handler):
    """A log handler that keeps what tf2onnx could not convert; its optimisers' complaints leave a sound graph."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Keep what tf2onnx says in the meantime."""
        logger = logging.getLogger("tf2onnx")
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "tf2onnx.tfonnx" and not record.getMessage().startswith("Unsupported ops"):
            text = _HANDLER.sub("", record.getMessage().splitlines()[0])
            reason = record.exc_info[1] if record.exc_info else None
            self.texts.append(text if reason is None else f"{text}: {first_line(reason)}")


def _name_batch(model: Any) -> None:
    """Call the first dimension of the inputs `batch` where it is unknown."""
    for value in model.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and not dimensions[0].HasField("dim_value"):
            dimensions[0].dim_param = "batch"


def _open(onnx_path: str, reference: Runner, names: Mapping[str, Mapping[str, str]]) -> OnnxRunner:
    """Open the file in ONNX Runtime, and check that it kept the signature."""
    try:
        runner = OnnxRunner(onnx_path, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConversionError(
            "ONNX Runtime does not run the converted model",
            details=[str(error)],
            hint="cast the model to float16 or float32 if it holds types that ONNX Runtime lacks on the CPU",
        ) from error
    wrong = _differences(reference.inputs, runner.inputs, names["inputs"], "input")
    wrong += _differences(reference.outputs, runner.outputs, names["outputs"], "output")
    if wrong:
        raise ConversionError("the converted model has another signature", details=wrong)
    return runner


def _differences(
    wanted: tuple[TensorSpec, ...], found: tuple[TensorSpec, ...], names: Mapping[str, str], what: str
) -> list[str]:
    there = {spec.name: spec for spec in found}
    wrong = []
    for spec in wanted:
        other = there.pop(names[spec.name], None)
        if other is None:
            wrong.append(f"{what} {spec.name}: missing")
        elif other.dtype != spec.dtype:
            wrong.append(f"{what} {spec.name}: {other.dtype}, was {spec.dtype}")
        elif other.shape and spec.shape and len(other.shape) != len(spec.shape):
            wrong.append(f"{what} {attrs.evolve(other, name=spec.name)}, was {spec}")
    return wrong + [f"{what} {name}: was not there" for name in there]


def _versions() -> dict[str, str]:
    import onnx
    import onnxruntime
    import tensorflow
    import tf2onnx

    modules = {"onnx": onnx, "onnxruntime": onnxruntime, "tensorflow": tensorflow, "tf2onnx": tf2onnx}
    return {name: str(module.__version__) for name, module in modules.items()}
