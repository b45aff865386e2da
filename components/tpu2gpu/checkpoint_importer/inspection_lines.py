"""What a model or checkpoint holds, as lines for a reader."""

from __future__ import annotations

from typing import Any

from tpu2gpu.checkpoint_importer.inspecting import Inspection
from tpu2gpu.reporting.numbers import counted, size
from tpu2gpu.reporting.result_lines import columns

_MOST = 12


def describe_inspection(found: Inspection) -> list[str]:
    """Tell what a model or checkpoint holds, with the longest lists cut short; `--json` has all of it."""
    report = found.report
    step = "" if report.get("step") is None else f" of step {report['step']}"
    lines = [f"{found.source}: {found.kind}{step}", found.verdict]
    for name, signature in report.get("signatures", {}).items():
        lines += ["", f"signature {name}"]
        sides = [("in", signature["inputs"]), ("out", signature["outputs"])]
        rows = [(key, side, *_type_and_shape(tensor)) for side, tensors in sides for key, tensor in tensors.items()]
        lines += [f"  {line}" for line in columns(rows)]
    if parts := report.get("parts"):
        lines += ["", "part", *(f"  {line}" for line in columns([_part(part) for part in parts]))]
    for number, profile in enumerate(report.get("profiles", ()) or _profiles(report)):
        lines += [f"profile {number}: {_profile(profile)}"]
    if variables := report.get("variables"):
        lines += [
            "",
            f"{counted(len(variables), 'variable')}, {size(report['variables_size_bytes'])}",
            *_tensors(variables),
        ]
    if tensors := report.get("tensors"):
        kinds = ", ".join(
            f"{it['tensors']} {kind} ({size(it['size_bytes'])})" for kind, it in report.get("kinds", {}).items()
        )
        lines += ["", f"{counted(len(tensors), 'tensor')}, {size(report['size_bytes'])}: {kinds}", *_tensors(tensors)]
    if checkpoints := report.get("checkpoints"):
        lines += ["", "checkpoints", *(f"  {found.source / name}" for name in checkpoints)]
    if ops := report.get("ops"):
        most = sorted(ops.items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{count} {op}" for op, count in most[:_MOST])
        more = f" and {len(most) - _MOST} other kinds" if len(most) > _MOST else ""
        lines += ["", f"{sum(ops.values())} ops: {named}{more}"]
    lines += report.get("stablehlo_modules", [])
    if unknown := report.get("unknown_ops"):
        lines += [f"unknown to this TensorFlow: {', '.join(unknown)}"]
    if tpu_ops := report.get("tpu_ops"):
        lines += [f"of the TPU, in the graph as it was trained: {_counted(tpu_ops)}"]
    for key, title in (
        ("possible_inputs", "tensors that could be inputs"),
        ("possible_outputs", "that could be outputs"),
    ):
        if possible := report.get(key):
            rest = [f"  and {len(possible) - _MOST} more"] if len(possible) > _MOST else []
            lines += ["", title, *(f"  {tensor}" for tensor in possible[:_MOST]), *rest]
    return [*lines, "", report["next"]] if report.get("next") else lines


def _part(part: dict[str, Any]) -> tuple[str, ...]:
    engine = ""
    if part["engine"]:
        engine = f"{part['engine']} ({size(part['engine_size_bytes'])}, for {part['engine_for']})"
    return part["name"], f"on the {part['runs_on'].upper()}", part["file"], size(part["size_bytes"]), engine


def _profiles(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [profile for part in report.get("parts", ()) for profile in part["engine_profiles"]]


def _profile(profile: dict[str, Any]) -> str:
    shapes = (f"{name} {' : '.join(str(list(shape)) for shape in sizes)}" for name, sizes in profile.items())
    return ", ".join(shapes)


def _counted(ops: dict[str, int]) -> str:
    return ", ".join(f"{count} {op}" for op, count in ops.items())


def _tensors(tensors: list[dict[str, Any]]) -> list[str]:
    largest = sorted(tensors, key=lambda tensor: (-tensor["size_bytes"], tensor["name"]))
    rows = [(tensor["name"], *_type_and_shape(tensor), size(tensor["size_bytes"])) for tensor in largest[:_MOST]]
    more = [f"  and {counted(len(tensors) - _MOST, 'smaller one')}"] if len(tensors) > _MOST else []
    return [*(f"  {line}" for line in columns(rows)), *more]


def _type_and_shape(tensor: dict[str, Any]) -> tuple[str, str]:
    shape = tensor["shape"]
    sizes = "of unknown rank" if shape is None else f"[{', '.join('?' if n is None else str(n) for n in shape)}]"
    return tensor["dtype"], sizes
