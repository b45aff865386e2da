"""SavedModel -> the parts of it: ONNX for what the accelerator runs, and SavedModels for the rest.

Like the conversion to ONNX it runs in a process of its own, which loads TensorFlow once for all parts.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import (
    ConversionError,
    ParityRefusedError,
    Tpu2GpuError,
    UnsupportedError,
    UsageError,
    first_line,
    foreign_errors,
)
from tpu2gpu.graphs.formats.saved_model import read_saved_model, serving_meta_graph, write_saved_model
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.running import serving_plan
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.comparison.tolerances import conversion_tolerance
from tpu2gpu.running.examples.probes.find_domains import find_domains
from tpu2gpu.running.examples.probes.probes import input_specs, specs_of
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.running.local.reference_runner import ReferenceRunner
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.running.runner import Runner, TensorSpec
from tpu2gpu.trt_converter.feeds import feeds_for, run_reference, save_reference
from tpu2gpu.trt_converter.judge.chain import decided_otherwise
from tpu2gpu.trt_converter.judge.coverage import not_exercised
from tpu2gpu.trt_converter.onnx import convert as onnx
from tpu2gpu.trt_converter.parity import always_empty, check_finite, check_parity, compare_box_by_box, worst_of
from tpu2gpu.trt_converter.partition.assignment import NothingToAccelerateError, assign
from tpu2gpu.trt_converter.partition.build_parts import name_outputs, partition_model
from tpu2gpu.trt_converter.partition.costs import Costs, costs_of
from tpu2gpu.trt_converter.partition.part import ModelPart, Partition
from tpu2gpu.trt_converter.partition.refused_nodes import Refusal, refused_nodes
from tpu2gpu.trt_converter.partition.suppression import SuppressionBesideError, suppression_of
from tpu2gpu.trt_converter.profiles import Profile, check_names, fit_profiles, for_part

PARTS_FOLDER = "parts"
_SAME = 1e-5  # relative: the parts in TensorFlow, compared with the whole in TensorFlow


def convert(
    *,
    source: str,
    signature: str,
    onnx_path: str,
    reference_folder: str,
    profiles: list[Profile],
    for_engine: bool,
    engine_is_optional: bool = False,
    refused: Refusal | None = None,
    nms: str = "auto",
    **more: Any,
) -> dict[str, Any]:
    """Convert a model, in parts where it must be; the arguments and the result are plain data.

    Where the converter or ONNX Runtime refuses a node, the model is cut around it, until what is left stands.

    Args:
        source: The SavedModel's folder.
        signature: Which signature.
        onnx_path: The file to write; parts that are no ONNX file lie beside it.
        reference_folder: Where to leave the feeds and outputs of what `onnx_path` holds.
        profiles: What `--profile` says, of the model's inputs or of those of its core.
        for_engine: Whether an engine shall run it, which takes less than ONNX Runtime does.
        engine_is_optional: Whether ONNX Runtime may run it where an engine cannot.
        refused: What an engine builder refused of the file of a former conversion.
        nms: Where non-max suppression shall run, as `--nms` says.
        more: What `onnx.convert` takes beside.

    Returns:
        What `onnx.convert` finds for the whole model, or for its core; `partition`: None, or what is known of the
        parts; `suppression`: None, or where non-max suppression runs, and why; `refused`: the nodes that were refused
        on the way, with the reasons; and `no_engine_because`: why it is not for an engine although that was wished.

    Raises:
        Tpu2GpuError: See `onnx.convert`, `assign` and `check_names`.
    """
    arguments = {"signature": signature, "onnx_path": onnx_path, "reference_folder": reference_folder, **more}
    flat, why_whole = _read_model(source, signature)
    model = None if flat is None else flat.model

    def converted(*, for_engine: bool, refusal: Refusal | None = None) -> dict[str, Any]:
        nodes: dict[str, str] = {}
        if refusal is not None:
            nodes |= refusal["nodes"]
            _learn(nodes, model, ConversionError(refusal["message"], details=refusal["details"]))
        while True:
            try:
                found = _convert_once(
                    source, flat, why_whole, nodes, profiles, arguments, for_engine=for_engine, nms=nms
                )
                return {**found, "refused": nodes, "no_engine_because": ""}
            except (NothingToAccelerateError, SuppressionBesideError):
                raise
            except ConversionError as error:
                _learn(nodes, model, error)
                _empty(arguments)

    try:
        return converted(for_engine=for_engine, refusal=refused)
    except ConversionError as error:
        if not (for_engine and engine_is_optional):
            raise
        _empty(arguments)
        why = ": ".join([error.message, *error.details[:1]])
        return {**converted(for_engine=False), "no_engine_because": why}


def _learn(nodes: dict[str, str], model: ServingModel | None, error: ConversionError) -> None:
    """Add the nodes that a refusal is about to those that are known; raise it where it is about no other."""
    named = {} if model is None else refused_nodes(model, error)
    if not named.keys() - nodes.keys():
        raise error
    nodes.update({name: why for name, why in named.items() if name not in nodes})


def _empty(arguments: Mapping[str, Any]) -> None:
    """Remove what a refused conversion left."""
    shutil.rmtree(Path(arguments["onnx_path"]).parent / PARTS_FOLDER, ignore_errors=True)
    for path in Path(arguments["reference_folder"]).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _convert_once(
    source: str,
    flat: _FlatModel | None,
    why_whole: str,
    refused: Mapping[str, str],
    profiles: list[Profile],
    arguments: dict[str, Any],
    *,
    for_engine: bool,
    nms: str,
) -> dict[str, Any]:
    partition = suppression = None
    if flat is not None:
        model, costs = flat.model, flat.costs
        assignment = assign(model, costs, for_engine=for_engine, refused=refused, nms=nms)
        suppression = suppression_of(model, assignment, for_engine=for_engine, nms=nms)
        why_whole = "every operation is taken"
        if assignment is not None:
            partition = partition_model(model, arguments["signature"], assignment, costs)
            (core,) = (part for part in partition.parts if part.name == "core")
            check_names(profiles, [*model.signatures[arguments["signature"]].inputs, *core.takes])
            if for_engine and partition.certain:
                _check_profiles(model, core, arguments["signature"], profiles)
    if for_engine and partition is None and (inputs := _inputs_of(source, arguments["signature"])):
        fit_profiles(inputs, profiles)
    if flat is not None and partition is not None and partition.certain:
        return {**_Conversion(source, arguments, flat.model, partition).run(), "suppression": suppression}
    try:
        certain = partition is None and (for_engine or profiles)  # the inputs are those that the engine will have
        whole = onnx.convert(source=source, profiles=profiles if certain else None, **arguments)
        return {**whole, "partition": None, "whole_because": why_whole, "suppression": suppression}
    except ConversionError:
        if flat is None or partition is None:
            raise
    return {**_Conversion(source, arguments, flat.model, partition).run(), "suppression": suppression}


@attrs.frozen
class _FlatModel:
    model: ServingModel
    costs: Costs


def _read_model(source: str, signature: str) -> tuple[_FlatModel | None, str]:
    """Return the model as a flat graph, and what its nodes cost; None where it cannot be cut, and why that."""
    try:
        model = read_saved_model(source)
        if signature not in model.signatures:
            return None, ""  # the conversion says so
        model.signatures = {signature: model.signatures[signature]}
        name_outputs(model, signature)
        model.prune()
        costs = costs_of(model)
    except (Tpu2GpuError, ValueError) as error:  # what TensorFlow itself loads may be more
        return None, f"its graph cannot be cut: {first_line(error)}"
    return _FlatModel(model, costs), ""


def _inputs_of(source: str, signature: str) -> list[TensorSpec]:
    """Return a signature's inputs, from its file alone; none where it does not tell them all."""
    definition = serving_meta_graph(source).signature_def
    if signature not in definition:
        return []
    specs = specs_of(definition[signature].inputs)
    return specs if all(spec.ranked for spec in specs) else []


def _check_profiles(model: ServingModel, core: ModelPart, signature: str, profiles: list[Profile]) -> None:
    """Check, before anything runs, that the engine's part will have whole shapes.

    Raises:
        UsageError: It will not; each such tensor is listed, with the model's inputs that it is made of.
    """
    whole, specs = input_specs(model, signature), input_specs(core.model, signature)
    if not all(spec.ranked for spec in specs):
        return  # the run will tell
    try:
        fit_profiles(specs, for_part(specs, whole, profiles))
    except UsageError as error:
        own = {spec.name for spec in whole}
        made = [spec.name for spec in specs if spec.name not in own and None in spec.shape[1:]]
        listed = ", ".join(sorted(own))
        details = [*error.details, *(f"{name}: what the part before the engine makes of {listed}" for name in made)]
        raise UsageError(error.message, details=details, hint=error.hint) from error


class _Conversion:
    """A conversion in parts."""

    def __init__(self, source: str, arguments: dict[str, Any], model: ServingModel, partition: Partition) -> None:
        self._source, self._arguments, self._partition = source, arguments, partition
        self._folder = Path(arguments["onnx_path"]).parent / PARTS_FOLDER
        self._references = Path(arguments["reference_folder"])
        self._reference = ReferenceRunner(source, signature=arguments["signature"], trust=arguments["trust"])
        self._feeds = feeds_for(
            self._reference.inputs,
            domains=find_domains(model, arguments["signature"]),
            **{name: arguments[name] for name in ("sizes", "examples", "reading", "limit")},
        )

    def run(self) -> dict[str, Any]:
        started = time.perf_counter()
        self._feeds, outputs = run_reference(self._reference, self._feeds)
        missed = not_exercised(
            self._source, self._arguments["signature"], self._feeds.batches, trust=self._arguments["trust"]
        )
        self._feeds = attrs.evolve(self._feeds, not_exercised=(*always_empty(outputs), *missed))
        check_finite(outputs, self._feeds.origin)
        tensors: list[dict[str, Array]] = [dict(batch) for batch in self._feeds.batches]
        runners: dict[str, Runner] = {part.name: self._in_tensorflow(part, tensors) for part in self._partition.parts}
        same = conversion_tolerance(self._reference.widened[0]) if self._reference.widened else _SAME
        check_parity(self._compare(outputs, tensors), same, "the model, cut into parts,")
        written = time.perf_counter()
        core = self._to_onnx("core", Path(self._arguments["onnx_path"]), self._references)
        described = {part.name: self._describe(part, runners[part.name], tensors) for part in self._partition.parts}
        described["core"] = attrs.evolve(
            described["core"], onnx=Path(self._arguments["onnx_path"]).name, saved_model=None, ops=core["ops"]
        )
        in_tensorflow = dict(runners)
        runners["core"] = OnnxRunner(self._arguments["onnx_path"], providers=["CPUExecutionProvider"])
        if "post" in runners:
            described["post"], runners["post"] = self._post_to_onnx(described["post"], runners["post"])
        again: list[dict[str, Array]] = [dict(batch) for batch in self._feeds.batches]
        for part in self._partition.parts:
            with foreign_errors(ConversionError, f"the part {part.name} does not run where the source does"):
                for batch in again:
                    batch.update(runners[part.name].run({name: batch[name] for name in part.takes}))
        parity = self._compare(outputs, again)
        asked = self._arguments["tolerance"]
        tolerance = conversion_tolerance(core["weights_dtype"]) if asked is None else asked
        post = next((part.model for part in self._partition.parts if part.name == "post"), None)
        if core["findings"] or decided_otherwise(parity, core["parity"], tolerance, post):
            parity = self._compare_given(core["parity"], again, in_tensorflow)
        batched = self._batched(tensors)
        shutil.rmtree(self._folder / "core")
        facts = {
            "inputs": [spec.to_json() for spec in self._reference.inputs],
            "outputs": [spec.with_rank(outputs[0][spec.name].ndim).to_json() for spec in self._reference.outputs],
            "output_tensors": self._partition.output_tensors,
            "parts": [described[part.name].to_json() for part in self._partition.parts],
            "parity": parity,
            "core_share": self._partition.report["core_share"],
            "boundary_tensors": self._partition.report["boundary_tensors"],
            "partition_s": written - started,
        }
        return {
            **core,
            "batched": batched,
            "compared_on": self._feeds.compared_on,
            "feeds": self._feeds.describe(),
            "partition": facts,
            "whole_because": "",
        }

    def _in_tensorflow(self, part: ModelPart, tensors: list[dict[str, Array]]) -> Runner:
        """Write a part as a SavedModel, run it, and leave what it took and gave to compare its conversion with."""
        settle_shapes(part, self._arguments["signature"], tensors)
        home = self._folder / part.name
        home.mkdir(parents=True)
        trust = self._arguments["trust"]
        write_saved_model(part.model, home, trust=trust)
        runner = SavedModelRunner(home, signature=self._arguments["signature"], trust=trust)
        judge: Runner = runner
        if self._reference.widened and part.name != "pre":
            judge = ReferenceRunner(home, signature=self._arguments["signature"], trust=trust)
        for position, batch in enumerate(tensors):
            taken = {name: batch[name] for name in part.takes}
            given = judge.run(taken)
            if part.name != "pre":
                save_reference(self._reference_folder(part.name), position, taken, given)
            batch.update(given)
        return runner

    def _reference_folder(self, name: str) -> Path:
        folder = self._references if name == "core" else self._references / name
        folder.mkdir(exist_ok=True)
        return folder

    def _to_onnx(self, name: str, path: Path, references: Path) -> dict[str, Any]:
        arguments = {
            **self._arguments,
            "onnx_path": str(path),
            "reference_folder": str(references),
            "given": str(references),
        }
        return onnx.convert(source=str(self._folder / name), **arguments)

    def _post_to_onnx(self, described: serving_plan.Part, in_tensorflow: Runner) -> tuple[serving_plan.Part, Runner]:
        """Put the last part into ONNX Runtime where it converts, and gives the same; else leave it in TensorFlow."""
        home = self._folder / "post.onnx"
        home.mkdir()
        path = home / "model.onnx"
        try:
            found = self._to_onnx("post", path, self._reference_folder("post"))
            check_parity(found["parity"], conversion_tolerance("float32"), "the last part in ONNX Runtime")
        except (ConversionError, ParityRefusedError, UnsupportedError) as error:
            shutil.rmtree(home)
            return attrs.evolve(described, in_tensorflow_because=error.message), in_tensorflow
        shutil.rmtree(self._folder / "post")
        home.rename(self._folder / "post")
        onnx_file = f"{PARTS_FOLDER}/post/model.onnx"
        runner = OnnxRunner(self._folder / "post" / "model.onnx", providers=["CPUExecutionProvider"])
        return attrs.evolve(described, onnx=onnx_file, saved_model=None, ops=found["ops"]), runner

    def _describe(self, part: ModelPart, runner: Runner, tensors: Sequence[Mapping[str, Array]]) -> serving_plan.Part:
        report = next(each for each in self._partition.report["parts"] if each["name"] == part.name)
        return serving_plan.Part(
            **{**report, "unsupported": tuple(report["unsupported"])},
            runs_on="cpu",
            saved_model=f"{PARTS_FOLDER}/{part.name}",
            inputs=tuple(spec.with_rank(tensors[0][spec.name].ndim) for spec in runner.inputs),
            outputs=tuple(spec.with_rank(tensors[0][spec.name].ndim) for spec in runner.outputs),
            onnx_names=serving_plan.OnnxNames(*({name: name for name in names} for names in (part.takes, part.gives))),
            in_tensorflow_because="; ".join(report["unsupported"]),
        )

    def _compare(
        self, outputs: Sequence[Mapping[str, Array]], tensors: Sequence[Mapping[str, Array]]
    ) -> dict[str, Any]:
        names = self._partition.output_tensors
        pairs = zip(outputs, tensors, strict=True)
        return worst_of([compare_box_by_box(a, {name: found[names[name]] for name in a}) for a, found in pairs])

    def _compare_given(
        self, core: Mapping[str, Any], again: Sequence[Mapping[str, Array]], in_tensorflow: Mapping[str, Runner]
    ) -> dict[str, Any]:
        """Compare part by part behind decisions that come out otherwise: what follows takes the core's outputs.

        Args:
            core: How far the core's outputs are off, by tensor.
            again: The tensors that the converted parts gave.
            in_tensorflow: What runs each part in TensorFlow.
        """
        expected: list[dict[str, Array]] = [dict(batch) for batch in again]
        for part in self._partition.parts:
            if part.name == "post":
                for batch in expected:
                    batch.update(in_tensorflow["post"].run({name: batch[name] for name in part.takes}))
        names = self._partition.output_tensors
        given = [{name: batch[tensor] for name, tensor in names.items()} for batch in expected]
        parity = self._compare(given, again)
        return {name: core.get(names[name], figures) for name, figures in parity.items()}

    def _batched(self, tensors: Sequence[Mapping[str, Array]]) -> bool:
        if not all(spec.shape and spec.shape[0] is None for spec in self._reference.inputs):
            return False
        sizes = [len(batch[self._reference.inputs[0].name]) for batch in tensors]
        return all(
            array.ndim and len(array) == size
            for batch, size in zip(tensors, sizes, strict=True)
            for array in batch.values()
        )


def settle_shapes(part: ModelPart, signature: str, tensors: Sequence[Mapping[str, Array]]) -> None:
    """Give boundary tensors whose number of dimensions TensorFlow cannot tell the one that was seen."""
    for name, info in part.model.signatures[signature].inputs.items():
        if info.tensor_shape.unknown_rank and name in tensors[0]:
            info.tensor_shape.unknown_rank = False
            for _ in range(tensors[0][name].ndim):
                info.tensor_shape.dim.add(size=-1)
            node = part.model.nodes[info.name.partition(":")[0]]
            node.attr["shape"].shape.CopyFrom(info.tensor_shape)
