"""Mistakes in settings that train on a slice of several hosts, such as a folder that they could not share."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu_pipelines.kubeflow.compiler.places import Mounts, lost_checkpoints
from tpu2gpu_pipelines.kubeflow.compiler.tpu_slices import TpuSlice, find_slice
from tpu2gpu_pipelines.kubeflow_options import StepOptions
from tpu2gpu_pipelines.settings import Settings

_SHARED_SCHEME = "gs://"
_ROOT = "training.checkpoint_root"


def slice_mistakes(
    settings: Settings, steps: Mapping[str, StepOptions], mounts: Mounts, training: Collection[str]
) -> list[str]:
    """List what keeps steps from running on slices of several hosts; nothing where no slice has several.

    Args:
        settings: The settings.
        steps: The options of the pipeline's steps.
        mounts: For each of them where it sees a volume.
        training: The names of those that train.
    """
    if settings.kubeflow.platform != "kubernetes" or settings.kubeflow.cluster != "gke":
        return []  # where no TPU is, which is told elsewhere
    wrong: list[str] = []
    for name, step in steps.items():
        if found := _several_hosts(step):
            wrong += _step(name, step, found, name in training)
            wrong += _root(settings.training.checkpoint_root, {name: mounts[name]}, found)
            wrong += _batch(settings, found)
    return list(dict.fromkeys(wrong))


def _several_hosts(step: StepOptions) -> TpuSlice | None:
    try:
        found = find_slice(step.tpu) if step.tpu else None
    except Tpu2GpuError:
        return None  # which is told elsewhere
    return found if found and found.hosts > 1 else None


def _step(name: str, step: StepOptions, found: TpuSlice, trains: bool) -> Iterator[str]:
    where = f"kubeflow.steps.{name}"
    if not trains:
        yield f"{where}.tpu: {found.topology} is {found.hosts} hosts, and TFX's Trainer alone runs on several"
    if step.tpu and not step.tpu.service_account:
        yield f"{where}.tpu.service_account: the pods of {found.hosts} hosts need one"


def _root(root: str, mounts: Mounts, found: TpuSlice) -> Iterator[str]:
    if not root:
        yield (
            f"{_ROOT}: there is none, and the {found.hosts} hosts of {found.topology} and the step that launches them "
            "need a folder that all of them see: a gs:// URI, or one on a volume"
        )
    elif "://" in root and not root.startswith(_SHARED_SCHEME):
        yield (
            f"{_ROOT}: {root}: the hosts of a TPU read and write {_SHARED_SCHEME}, and folders on volumes; "
            "TensorFlow itself knows no other"
        )
    else:
        yield from lost_checkpoints(root, mounts, "kubernetes")


def _batch(settings: Settings, found: TpuSlice) -> Iterator[str]:
    if settings.training.batch_size % found.chips:
        yield (
            f"training.batch_size: {settings.training.batch_size}: is over all chips, and no multiple of the "
            f"{found.chips} of {found.topology}"
        )
