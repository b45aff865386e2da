"""Mistakes in settings for Kubeflow, found without TFX: all at once, by the settings' own keys and step names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.options import did_you_mean
from tpu2gpu_pipelines.kubeflow.compiler.accelerators import find_accelerator
from tpu2gpu_pipelines.kubeflow.compiler.names import misnamed
from tpu2gpu_pipelines.kubeflow.compiler.places import (
    lost_checkpoints,
    lost_promotion,
    misplaced_root,
    unimportable,
    unreadable,
)
from tpu2gpu_pipelines.kubeflow.compiler.pod_spec import FIRST_WAIT_S, WAIT_FACTOR
from tpu2gpu_pipelines.kubeflow.compiler.slice_check import slice_mistakes
from tpu2gpu_pipelines.kubeflow_options import KubeflowOptions, StepOptions
from tpu2gpu_pipelines.local import DEFAULT_PIPELINE
from tpu2gpu_pipelines.module_source import find_source, lacks
from tpu2gpu_pipelines.quantities import to_seconds
from tpu2gpu_pipelines.settings import Settings
from tpu2gpu_pipelines.step_names import CHECKPOINT, EVALUATOR, PUSHER, TRAINER, parameter_names, step_names

_KUBERNETES_ALONE = (
    "node_selector",
    "tolerations",
    "secrets",
    "volumes",
    "image_pull_secrets",
    "run_as_user",
    "run_as_group",
)


def settings_mistakes(
    settings: Settings, steps: Collection[str] | None = None, importers: Collection[str] = ()
) -> list[str]:
    """List what is wrong with settings for any pipeline, or for one of these steps.

    Args:
        settings: The settings.
        steps: The names of the pipeline's steps; None where they are not known yet.
        importers: Those of them that have no container.
    """
    options = settings.kubeflow
    wrong = [f"kubeflow.{line}" for line in _section(options, steps)]
    has_image = {name for name, step in options.steps.items() if step.image}
    if without := [name for name in steps or () if not options.image and name not in {*importers, *has_image}]:
        wrong.append(
            f"kubeflow.image: there is none, and {', '.join(without)} {'has' if len(without) == 1 else 'have'} "
            "no image in kubeflow.steps"
        )
    return wrong + misplaced_root(options.pipeline_root, options.platform)


def main_pipeline_mistakes(settings: Settings, parameters: Collection[str] = ()) -> list[str]:
    """List what is wrong with settings for the main pipeline.

    Args:
        settings: The settings.
        parameters: The names of the run parameters that a run is started with.
    """
    options, platform = settings.kubeflow, settings.kubeflow.platform

    def mounts(*names: str) -> dict[str, list[str]]:
        own = {name: options.steps[name].volumes if name in options.steps else () for name in names}
        return {name: [it.path for it in (*options.volumes, *own[name]) if it.path] for name in names}

    wrong = settings_mistakes(settings, step_names(settings), (CHECKPOINT,))
    promotion = _default(options, "promotion_uri", settings.promotion_folder)
    wrong += lost_promotion(promotion, mounts(EVALUATOR, PUSHER), platform)
    for number, path in enumerate(settings.import_.extra_pass):
        wrong += _code(f"import.extra_pass[{number}]", path)
    wrong += unreadable("data_uri", _default(options, "data_uri", settings.data_uri))
    if settings.checkpoint:
        checkpoint = _default(options, "checkpoint_uri", settings.checkpoint)
        wrong += unimportable("checkpoint", checkpoint, platform)
    else:
        wrong += lost_checkpoints(settings.training.checkpoint_root, mounts(TRAINER), platform)
        on_slices = slice_mistakes(settings, options.steps, mounts(*options.steps), (TRAINER,))
        wrong += [line for line in on_slices if line not in wrong]
        wrong += _training_function(settings.training.run_fn)
    known = parameter_names(settings)
    for name in options.parameters:
        if name not in known:
            wrong.append(f"kubeflow.parameters.{name}: no step has a parameter of that name; {_near(name, known)}")
    declared = {*options.parameters, *(name for name in known if name.endswith("_uri"))}
    for name in parameters:
        if name not in declared:
            wrong.append(f"--parameter {name}: no such run parameter; {_near(name, declared)}")
    return wrong


def mistakes_for(pipeline: str, parameters: Collection[str] = ()) -> Callable[[Settings], list[str]]:
    """Return what looks for mistakes in the settings of a pipeline, as far as its name tells.

    Args:
        pipeline: The path of the function that makes it, `MODULE:FUNCTION`.
        parameters: The names of the run parameters that a run is started with.
    """
    if pipeline == DEFAULT_PIPELINE:
        return partial(main_pipeline_mistakes, parameters=parameters)
    module, _, function = pipeline.partition(":")
    wrong = lacks(module, function) if module and function else "must be MODULE:FUNCTION"
    named = [f"--pipeline {pipeline}: {wrong}"] if wrong else []
    return lambda settings: named + settings_mistakes(settings)


def _section(options: KubeflowOptions, steps: Collection[str] | None) -> Iterator[str]:
    """Look at the section `kubeflow`, without what lies outside of it."""
    yield from _named("service_account", "name", options.service_account)
    yield from _named("server.namespace", "namespace", options.server.namespace)
    yield from _named("image", "image", options.image)
    for number, name in enumerate(options.image_pull_secrets):
        yield from _named(f"image_pull_secrets[{number}]", "name", name)
    for number, volume in enumerate(options.volumes):
        yield from _named(f"volumes[{number}].claim", "name", volume.claim)
    for address in ("host", "dashboard"):
        given = getattr(options.server, address)
        if given and "://" in given and not given.startswith(("http://", "https://")):
            yield f"server.{address}: {given}: must begin with http:// or https://"
    for name, step in options.steps.items():
        if steps is not None and name not in steps:
            yield f"steps.{name}: no such step; {_near(name, steps)}"
        yield from _step(f"steps.{name}", step, options)
    if options.platform == "vertex":
        places = {"": options, **{f"steps.{name}.": step for name, step in options.steps.items()}}
        for place, section in places.items():
            for field in _KUBERNETES_ALONE:
                if getattr(section, field, ()):
                    yield f"{place}{field}: Vertex has nothing like it"


def _step(where: str, step: StepOptions, options: KubeflowOptions) -> Iterator[str]:
    yield from _named(f"{where}.image", "image", step.image)
    for number, volume in enumerate(step.volumes):
        yield from _named(f"{where}.volumes[{number}].claim", "name", volume.claim)
    for number, secret in enumerate(step.secrets):
        yield from _named(f"{where}.secrets[{number}].name", "name", secret.name)
        yield from _named(f"{where}.secrets[{number}].key", "key of a secret", secret.key)
    for label, value in step.node_selector.items():
        yield from _named(f"{where}.node_selector", "label", label)
        if isinstance(value, str):
            yield from _named(f"{where}.node_selector.{label}", "value of a label", value)
    for number, toleration in enumerate(step.tolerations):
        yield from _named(f"{where}.tolerations[{number}].key", "label", toleration.key)
    given = [*(volume.path for volume in (*options.volumes, *step.volumes)), *(it.path for it in step.secrets)]
    paths = [path.rstrip("/") for path in given if path]
    for path in _twice(paths):
        yield f"{where}: two volumes or secrets at {path or '/'}"
    for path in dict.fromkeys(paths):
        if not path or ":" in path:
            why = "Kubernetes takes no path with a colon" if path else "a step needs its own"
            yield f"{where}: a volume or secret at {path or '/'}: {why}"
    for variable in _twice([*{**options.env, **step.env}, *(it.env for it in step.secrets if it.env)]):
        yield f"{where}: two values for the environment variable {variable}"
    if step.tpu:
        yield from _named(f"{where}.tpu.service_account", "name", step.tpu.service_account)
    yield from _retries(where, step)
    try:
        find_accelerator(step, options.platform, options.cluster)
    except Tpu2GpuError as error:
        key, _, found = str(error).partition(" ")  # `tpu`, `gpu`, or a key below one of them
        yield f"{where}.{key.rstrip(':')}: {found}"


def _retries(where: str, step: StepOptions) -> Iterator[str]:
    """Argo counts from the first try's start: what its waits alone outlast never happens."""
    fitting, waited_s = 0, 0.0
    within_s = to_seconds(step.retry_within)
    while fitting < step.retries and waited_s < within_s:
        waited_s += FIRST_WAIT_S * WAIT_FACTOR**fitting
        fitting += waited_s < within_s
    if fitting < step.retries:
        yield (
            f"{where}.retries: {step.retries}: the waits between tries are {FIRST_WAIT_S} s and then ever twice as "
            f"long; at most {fitting} fit into retry_within, {step.retry_within}"
        )


def _training_function(path: str) -> Iterator[str]:
    module, _, name = path.rpartition(".")
    if not module or not name:
        yield f"training.run_fn: {path}: must be PACKAGE.MODULE.FUNCTION"
    elif wrong := lacks(module, name):
        yield f"training.run_fn: {path}: {wrong}"


def _code(where: str, path: str) -> Iterator[str]:
    """Look at code of a user's own as far as it is here; it may be in the images alone."""
    module, _, name = path.partition(":")
    if not module or not name:
        yield f"{where}: {path}: must be MODULE:CLASS"
    elif find_source(module.partition(".")[0]) and (wrong := lacks(module, name)):
        yield f"{where}: {path}: {wrong}"


def _default(options: KubeflowOptions, name: str, own: str) -> str:
    """Return what a run is told that is given no parameters."""
    value = options.parameters.get(name)
    return own if value is None else str(value)


def _named(where: str, kind: str, text: str) -> Iterator[str]:
    if text and (wrong := misnamed(kind, text)):
        yield f"{where}: {wrong}"


def _twice(items: list[str]) -> list[str]:
    return [item for item, times in Counter(items).items() if times > 1]


def _near(word: str, known: Collection[str]) -> str:
    return did_you_mean(word, known) or f"there are {', '.join(sorted(known)) or 'none'}"
