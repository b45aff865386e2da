"""Run parameters: values that whoever starts a run may give, with a default for everybody else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tpu2gpu.options import did_you_mean
from tpu2gpu_pipelines.kubeflow.compiler.specification import Spec, Step, kebab_case, steps_of

ALWAYS = ("data_uri", "checkpoint_uri", "promotion_uri")
"""Where data or a checkpoint come from and where the model goes: parameters of every run whose steps know them."""

DESTINATION = "push_destination"
PROMOTION = "promotion_uri"


def feed_parameters(spec: Spec, defaults: Mapping[str, Any]) -> list[str]:
    """Make run parameters of step parameters: each feeds every step parameter of its name.

    A pusher is fed `promotion_uri` as well, and an importer `ID_uri` where ID is its own.

    Args:
        spec: The specification with TFX's ids; changed in place.
        defaults: Names and defaults; None stands for what the step has been told.

    Returns:
        What is wrong with them.
    """
    wrong = []
    declared: Spec = spec["root"].setdefault("inputDefinitions", {}).setdefault("parameters", {})
    for name in {**dict.fromkeys(ALWAYS), **defaults}:
        default = defaults.get(name)
        consumers = list(_consumers(spec, name))
        if not consumers and name not in declared:
            if name in defaults:
                known = {*_known(spec), *declared}
                hint = did_you_mean(name, known) or f"there are {', '.join(sorted(known))}"
                wrong.append(f"kubeflow.parameters.{name}: no step has a parameter of that name; {hint}")
            continue
        for step, key, constant in consumers:
            kind = step.parameters[key]["parameterType"]
            declared.setdefault(name, {"parameterType": kind, "defaultValue": constant})
            if declared[name]["parameterType"] != kind:
                wrong.append(f"kubeflow.parameters.{name}: {step.name} takes {kind}, others another type")
            step.inputs[key] = {"componentInputParameter": name}
        if default is not None:
            declared[name]["defaultValue"] = default
    if not declared:
        del spec["root"]["inputDefinitions"]
    return wrong


def _consumers(spec: Spec, name: str) -> Iterator[tuple[Step, str, Any]]:
    """Find the steps that take a parameter of this name, by which key, and what they have been told instead."""
    for step in steps_of(spec):
        if "importer" in step.executor:
            if name == _importer_parameter(step) and (found := _constant(step, "uri")) is not None:
                yield step, "uri", found
        elif (found := _constant(step, name)) is not None:
            yield step, name, found
        elif name == PROMOTION and (folder := _pushed_to(step)) is not None:
            step.parameters[PROMOTION] = {"parameterType": "STRING"}
            yield step, PROMOTION, folder


def _known(spec: Spec) -> set[str]:
    names = set()
    for step in steps_of(spec):
        names |= {_importer_parameter(step)} if "importer" in step.executor else set(step.parameters)
    return names


def _importer_parameter(step: Step) -> str:
    return f"{kebab_case(step.name).replace('-', '_')}_uri"


def _constant(step: Step, key: str) -> Any:
    return step.inputs.get(key, {}).get("runtimeValue", {}).get("constant")


def _pushed_to(step: Step) -> str | None:
    """Return the folder that a stock Pusher has been told, which stands inside a JSON text."""
    if (text := _constant(step, DESTINATION)) is None:
        return None
    folder: str | None = json.loads(text).get("filesystem", {}).get("base_directory")
    return folder
