"""Write a frozen graph's weights as a checkpoint for model code that exists, or for readers of another one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import SourceError, UsageError
from tpu2gpu.graphs.describing import dtype_name
from tpu2gpu.graphs.formats.checkpoint_tensors import kind_of_tensor, variable_name
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.passes.freezing.find_weights import Weight
from tpu2gpu.process.worker import Worker
from tpu2gpu.storage.unfinished import scratch
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.casting import is_float
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.writer import BundleWriter
from tpu2gpu.unfreezer.code import MODEL_SUFFIX, WEIGHTS_SUFFIX
from tpu2gpu.unfreezer.matching import Candidate, Matching, match, role_of, type_in_the_way

_Written = tuple[Matching, dict[str, Any]]


def write_onto(
    onto: str, model: ServingModel, weights: dict[str, Weight], order: list[str], served: Path, prefix: Path
) -> _Written:
    """Write a checkpoint with a model's weights under the names of other variables.

    Args:
        onto: `module:function`, or a checkpoint's prefix.
        model: The model, whose weights are variables already.
        weights: Its weights, by the variables' names.
        order: Those names in the graph's order.
        served: The SavedModel of the same variables, to compare outputs with.
        prefix: The checkpoint to write.

    Returns:
        Which weight went to which variable, and the same for `report.json`, with what the code's own run showed.

    Raises:
        UsageError: There is no such function or checkpoint.
        SourceError: No weight belongs to a variable, or the code makes none.
        WorkerError: The code died.
    """
    candidates = [
        Candidate(
            name,
            model.variables[name].shape,
            dtype_name(model.variables[name].dtype),
            weights[name].role,
            weights[name].trainable,
        )
        for name in order
    ]
    if Path(f"{onto}.index").is_file():
        return _onto_checkpoint(onto, model, candidates, prefix)
    if ":" not in onto:
        raise UsageError(f"--onto {onto}: neither MODULE:FUNCTION nor a checkpoint's prefix")
    return _onto_code(onto, model, candidates, served, prefix)


def _onto_code(onto: str, model: ServingModel, candidates: list[Candidate], served: Path, prefix: Path) -> _Written:
    # The code may print, abort, or want another default graph: it runs elsewhere.
    with (
        Worker(
            "tpu2gpu.unfreezer.code:ModelCode",
            {"function": onto, "folder": str(Path.cwd())},
            name=f"--onto {onto}",
            environment={"CUDA_VISIBLE_DEVICES": "-1"},
        ) as code,
        scratch() as folder,
    ):
        variables = [
            Candidate(it["name"], tuple(it["shape"]), it["dtype"], role_of(it["name"]), it["trainable"])
            for it in code.call("variables")
        ]
        matching = _matched(onto, candidates, variables)
        values = folder / "values"
        with BundleWriter(values) as writer:
            for pair in matching.matches:
                variable = model.variables[pair.weight]
                writer.add(pair.variable, variable.dtype, variable.shape, model.value_chunks(variable))
        restored = code.call("restore", values=str(values), prefix=str(prefix))
        compared = code.call("compare", model=str(served), signature=next(iter(model.signatures)))
    return matching, {**_report(onto, matching), **restored, "compared": compared}


def _onto_checkpoint(onto: str, model: ServingModel, candidates: list[Candidate], prefix: Path) -> _Written:
    bundle = Bundle(onto)
    variables = []
    for key in sorted(bundle, key=_numbers_as_numbers):
        entry = bundle.entry(key)
        if is_float(entry.dtype) and not kind_of_tensor(key, bundle):
            name = variable_name(key)
            variables.append(Candidate(name, entry.shape, format.DTYPE_NAMES[entry.dtype], role_of(name)))
    matching = _matched(onto, candidates, variables)
    weight_of = {pair.variable: pair.weight for pair in matching.matches}
    copied = []
    with BundleWriter(prefix) as writer:
        for key in bundle:
            entry, name = bundle.entry(key), variable_name(key)
            if name in weight_of and not kind_of_tensor(key, bundle):
                variable = model.variables[weight_of[name]]
                writer.add(key, variable.dtype, variable.shape, model.value_chunks(variable))
                continue
            checksum = entry.crc32c if entry.dtype == format.DT_STRING else None
            writer.add(key, entry.dtype, entry.shape, bundle.chunks(key), crc32c=checksum)
            copied.append(key)
    if Path(f"{onto}.meta").is_file():
        shutil.copyfile(f"{onto}.meta", f"{prefix}.meta")
    return matching, {**_report(onto, matching), "copied_unchanged": copied}


def _numbers_as_numbers(key: str) -> list[tuple[int, str]]:
    """Sort layer 2 before layer 10."""
    parts = enumerate(re.split(r"(\d+)", key))
    return [(len(digits := part.lstrip("0")), digits) if place % 2 else (-1, part) for place, part in parts]


def describe_reading(report: dict[str, Any], prefix: Path) -> list[str]:
    """Tell which call restores what was written, in a line for each.

    Args:
        report: What `write_onto` returned.
        prefix: The checkpoint, where it stands now.
    """
    onto, stem = report["onto"], str(prefix).removesuffix(".ckpt")
    if "restored" not in report:
        return [f'what restores {onto} restores "{prefix}"']
    if not report["objects"]:
        return [f'restore by: tf.compat.v1.train.Saver().restore(session, "{prefix}")']
    lines = [f'restore by: tf.train.Checkpoint(model).read("{prefix}")']
    calls = {WEIGHTS_SUFFIX: "model.load_weights", MODEL_SUFFIX: "keras.models.load_model"}
    lines += [f'        or: {calls[suffix]}("{stem}{suffix}")' for suffix in report.get("keras_files", ())]
    lines += [f"no {suffix} file: {why}" for suffix, why in report.get("keras_refused", {}).items()]
    return lines


def _matched(onto: str, candidates: list[Candidate], variables: list[Candidate]) -> Matching:
    matching = match(candidates, variables)
    if not matching.matches:
        dtype = type_in_the_way(candidates, variables)
        raise SourceError(
            f"--onto {onto}: no weight fits a variable",
            details=[
                *(f"weight {it.name}: {it.dtype} {list(it.shape)}" for it in candidates[:10]),
                *(f"variable {it.name}: {it.dtype} {list(it.shape)}" for it in variables[:10]),
            ],
            hint=f"only their types differ: `tpu2gpu cast --to {dtype}` makes them one" if dtype else "",
        )
    return matching


def _report(onto: str, matching: Matching) -> dict[str, Any]:
    return {
        "onto": onto,
        "matches": [attrs.asdict(it) for it in matching.matches],
        "unmatched_weights": matching.unmatched_weights,
        "unmatched_variables": matching.unmatched_variables,
    }
