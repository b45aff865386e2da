"""Un-freeze a model: its weights become variables again, in a SavedModel and in a checkpoint."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import SourceError, UsageError
from tpu2gpu.progress import Progress, silent
from tpu2gpu.storage.publishing import describe_source, publish_step
from tpu2gpu.unfreezer.options import UnfreezeOptions, UnfreezeResult

if TYPE_CHECKING:
    from tpu2gpu.graphs.model import ServingModel
    from tpu2gpu.graphs.passes.freezing.find_weights import Weight

CHECKPOINT_PREFIX = "checkpoint/model.ckpt"


def unfreeze_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: UnfreezeOptions | None = None,
    *,
    force: bool = False,
    run_name: str = "",
    progress: Progress | None = None,
) -> UnfreezeResult:
    """Un-freeze a model; variables have the names of the constants that they were.

    Args:
        source: A frozen SavedModel, or a frozen GraphDef (a `.pb` file, or the folder that `freeze` wrote).
        target: The SavedModel to write, with a checkpoint of the same variables in `checkpoint/`; with `onto` that
            checkpoint is the one for the code.
        options: Which constants become variables, and what they are called.
        force: Replace an existing target.
        run_name: The pipeline run, for the manifest.
        progress: Told what is being done.

    Raises:
        SourceError: The source is no frozen model, no constant in it is a weight, or none fits the code.
        SignatureError: The source has nothing to give in or to get out.
        UsageError: A regular expression or a rule is malformed, or there is no such code.
        WorkerError: The code of `onto` died.
        OutputExistsError: The target is there already.
    """
    from tpu2gpu.graphs.describing import describe_signatures, variables_size_bytes
    from tpu2gpu.graphs.formats.saved_model import write_saved_model
    from tpu2gpu.graphs.passes.base import Sequential
    from tpu2gpu.graphs.passes.freezing.find_weights import in_graph_order
    from tpu2gpu.graphs.passes.freezing.unfreeze_constants import UnfreezeConstants
    from tpu2gpu.graphs.passes.rename_variables import RenameVariables, describe_idle_rules, parse_rules

    options = options or UnfreezeOptions()
    progress = progress or silent
    parse_rules(options.rename)
    with publish_step("unfreeze", describe_source(source), target, options, force=force, run_name=run_name) as staging:
        progress("find the weights", 0, 2)
        model, weights = _find(source, options)
        if not weights:
            raise SourceError(
                f"{source}: no constant in it is a weight",
                hint="name constants with --include, or give a frozen model",
            )
        order = in_graph_order(model, weights)
        passes = Sequential([UnfreezeConstants(weights), RenameVariables(options.rename, defaults=False)])
        before = list(weights)
        renamed = passes.run(model)["renamed_variables"]
        staging.report = {
            "idle_rules": describe_idle_rules(options.rename, before, defaults=False),
            "signatures": describe_signatures(model),
            "weights": [attrs.asdict(weight) for _, weight in sorted(weights.items())],
            "renamed_variables": renamed,
            "size_bytes": variables_size_bytes(model),
        }
        progress("write the variables", 1, 2)
        write_saved_model(model, staging.folder, trust=options.trust)
        prefix = staging.folder / CHECKPOINT_PREFIX
        matching = None
        if options.onto:
            from tpu2gpu.unfreezer.onto import describe_reading, write_onto

            named = {renamed.get(name, name): weight for name, weight in weights.items()}
            progress(f"run {options.onto}, and restore what it makes", 1, 2)
            prefix.parent.mkdir()
            names = [renamed.get(name, name) for name in order]
            matching, staging.report["onto"] = write_onto(options.onto, model, named, names, staging.folder, prefix)
            remarks = describe_reading(staging.report["onto"], Path(target) / CHECKPOINT_PREFIX)
        else:
            _copy_checkpoint(staging.folder, prefix)
            remarks = [f'read by: tf.train.load_checkpoint("{Path(target) / CHECKPOINT_PREFIX}")']
        progress("done", 2, 2)
    return UnfreezeResult(
        target=Path(target),
        variables=len(weights),
        trainable_variables=sum(weight.trainable for weight in weights.values()),
        size_bytes=staging.report["size_bytes"],
        matched_variables=None if matching is None else len(matching.matches),
        unmatched_variables=None if matching is None else len(matching.unmatched_variables),
        unmatched_weights=None if matching is None else len(matching.unmatched_weights),
        report=staging.report,
        remarks=(*staging.report["idle_rules"], *remarks),
    )


def list_weights(source: str | os.PathLike[str], options: UnfreezeOptions | None = None) -> list[dict[str, Any]]:
    """List what `unfreeze_model` would make variables: node, role, consumer, and whether it is trainable.

    Raises:
        SourceError: The source is no frozen model.
        SignatureError: The source has nothing to give in or to get out.
        UsageError: A regular expression is malformed.
    """
    _, weights = _find(source, options or UnfreezeOptions())
    return [attrs.asdict(weight) for _, weight in sorted(weights.items())]


def _find(source: str | os.PathLike[str], options: UnfreezeOptions) -> tuple[ServingModel, dict[str, Weight]]:
    from tpu2gpu.graphs.formats.frozen_model import read_frozen
    from tpu2gpu.graphs.passes.freezing.find_weights import Weight, WeightFinder

    include, exclude = (
        _pattern(flag, text) for flag, text in (("include", options.include), ("exclude", options.exclude))
    )
    model = read_frozen(source)
    weights = WeightFinder(model).find()
    for name, node in model.nodes.items():
        if node.op == "Const" and include and include.search(name):
            weights.setdefault(name, Weight(name, "included", "", trainable=True))
        if exclude and exclude.search(name):
            weights.pop(name, None)
    return model, weights


def _pattern(name: str, text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise UsageError(f"--{name} {text!r}: not a regular expression ({error})") from error


def _copy_checkpoint(folder: Path, prefix: Path) -> None:
    """Copy the SavedModel's variables, which are under their names already: the same files are a checkpoint."""
    from tpu2gpu.graphs.formats.saved_model import VARIABLES_PREFIX

    prefix.parent.mkdir(parents=True, exist_ok=True)
    variables = folder / VARIABLES_PREFIX
    for path in sorted(variables.parent.glob(f"{variables.name}.*")):
        shutil.copyfile(path, prefix.with_name(prefix.name + path.name.removeprefix(variables.name)))
