"""SavedModel -> the parts of it: ONNX for what the accelerator runs, and SavedModels for the rest.

Like the conversion to ONNX it runs in a process of its own, which loads TensorFlow once for all parts.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tpu2gpu.errors import (
    ConversionError,
    Tpu2GpuError,
    UsageError,
    first_line,
)
from tpu2gpu.graphs.formats.saved_model import read_saved_model, serving_meta_graph
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.process.child import tell_parent
from tpu2gpu.running.examples.probes.probes import input_specs, specs_of
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.trt_converter.onnx import convert as onnx
from tpu2gpu.trt_converter.partition.assignment import NothingToAccelerateError, assign
from tpu2gpu.trt_converter.partition.build_parts import name_outputs, partition_model
from tpu2gpu.trt_converter.partition.conversion_in_parts import PARTS_FOLDER, ConversionInParts
from tpu2gpu.trt_converter.partition.costs import Costs, costs_of
from tpu2gpu.trt_converter.partition.part import ModelPart
from tpu2gpu.trt_converter.partition.refused_nodes import Refusal, refused_nodes
from tpu2gpu.trt_converter.partition.suppression import SuppressionBesideError, suppression_of
from tpu2gpu.trt_converter.profiles import Profile, check_names, fit_profiles, for_part


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

    The parent is told what a file for an engine holds when it stands, before it is compared. Where the converter or
    ONNX Runtime refuses a node, the model is cut around it, until what is left stands.

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
    if for_engine:
        arguments["written"] = lambda about: tell_parent({"partition": None, **about})
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
        arguments["written"] = None
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
        try:
            assignment = assign(flat.model, flat.costs, for_engine=for_engine, refused=refused, nms=nms)
            suppression = suppression_of(flat.model, assignment, for_engine=for_engine, nms=nms)
            why_whole = "every operation is taken"
        except _UncutError as error:
            flat, why_whole = None, str(error)
    if flat is not None:
        model = flat.model
        if assignment is not None:
            partition = partition_model(model, arguments["signature"], assignment, flat.costs())
            (core,) = (part for part in partition.parts if part.name == "core")
            check_names(profiles, [*model.signatures[arguments["signature"]].inputs, *core.takes])
            if for_engine and partition.certain:
                _check_profiles(model, core, arguments["signature"], profiles)
    if for_engine and partition is None and (inputs := _inputs_of(source, arguments["signature"])):
        fit_profiles(inputs, profiles)
    if flat is not None and partition is not None and partition.certain:
        return {**ConversionInParts(source, arguments, flat.model, partition).run(), "suppression": suppression}
    try:
        certain = partition is None and (for_engine or profiles)  # the inputs are those that the engine will have
        whole = onnx.convert(source=source, profiles=profiles if certain else None, **arguments)
        return {**whole, "partition": None, "whole_because": why_whole, "suppression": suppression}
    except ConversionError:
        if flat is None or partition is None:
            raise
    return {**ConversionInParts(source, arguments, flat.model, partition).run(), "suppression": suppression}


class _UncutError(Exception):
    """A graph that cannot be cut, for this reason."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"its graph cannot be cut: {first_line(error)}")


class _FlatModel:
    """A model as a flat graph."""

    def __init__(self, model: ServingModel) -> None:
        self.model = model
        self._costs: Costs | None = None

    def costs(self) -> Costs:
        """Return what its nodes cost, which only a cut needs to know."""
        if self._costs is None:
            try:
                self._costs = costs_of(self.model)
            except (Tpu2GpuError, ValueError) as error:  # an op that TensorFlow does not know
                raise _UncutError(error) from error
        return self._costs


def _read_model(source: str, signature: str) -> tuple[_FlatModel | None, str]:
    """Return the model as a flat graph; None where it cannot be cut, and why that."""
    try:
        model = read_saved_model(source)
        if signature not in model.signatures:
            return None, ""  # the conversion says so
        model.signatures = {signature: model.signatures[signature]}
        name_outputs(model, signature)
        model.prune()
    except (Tpu2GpuError, ValueError) as error:  # what TensorFlow itself loads may be more
        return None, str(_UncutError(error))
    return _FlatModel(model), ""


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
