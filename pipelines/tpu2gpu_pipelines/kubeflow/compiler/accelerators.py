"""What an accelerator is called where a step is to run, and how its node is found.

Sources:
    https://cloud.google.com/kubernetes-engine/docs/how-to/gpus (labels)
    https://github.com/NVIDIA/k8s-device-plugin (labels of GPU feature discovery)
    https://cloud.google.com/vertex-ai/docs/pipelines/machine-types (names on Vertex)
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tpu2gpu.errors import UnsupportedError, UsageError
from tpu2gpu_pipelines.kubeflow.compiler.tpu_slices import find_slice
from tpu2gpu_pipelines.kubeflow_options import GpuOptions, StepOptions, TpuOptions

TPU, GPU = "google.com/tpu", "nvidia.com/gpu"


@attrs.frozen
class Accelerator:
    """What a step asks for.

    Attributes:
        resource: The name of the resource.
        count: How many, for each pod.
        node_selector: Labels of the nodes that have it.
        taint: Key of the taint that keeps others off these nodes.
        hosts: How many pods it takes. A step is one, so it launches them where they are several.
    """

    resource: str
    count: int
    node_selector: Mapping[str, str] = {}
    taint: str = ""
    hosts: int = 1


def find_accelerator(step: StepOptions, platform: str, cluster: str) -> Accelerator | None:
    """Find what a step's accelerator is called there, or None for a step without one.

    Args:
        step: The step's options.
        platform: `kubernetes`, `vertex` or `local`.
        cluster: How the nodes are labelled, `gke` or `plain`.

    Raises:
        UsageError: A topology is not one.
        UnsupportedError: There is no such accelerator there.
    """
    if platform == "local":
        return None
    place = "vertex" if platform == "vertex" else cluster
    if step.tpu:
        return _tpu(step.tpu, place)
    if step.gpu:
        return _gpu(step.gpu, place, chosen=bool(step.node_selector))
    return None


def _tpu(tpu: TpuOptions, place: str) -> Accelerator:
    if place != "gke":
        raise UnsupportedError(
            f"tpu {tpu.type}: GKE alone has TPU nodes, and this is '{place}'",
            hint="set kubeflow.cluster: gke, or train elsewhere and name the checkpoint",
        )
    found = find_slice(tpu)
    labels = {
        "cloud.google.com/gke-tpu-accelerator": found.label,
        "cloud.google.com/gke-tpu-topology": found.topology,
    }
    return Accelerator(TPU, found.chips_per_host, labels, TPU, found.hosts)


def _gpu(gpu: GpuOptions, place: str, *, chosen: bool) -> Accelerator:
    if place != "plain" and not gpu.type:
        raise UsageError(f"gpu.type: '{place}' finds its nodes by it", hint="for example nvidia-l4")
    if place == "vertex":
        return Accelerator(gpu.type.upper().replace("-", "_"), gpu.count)
    if place == "gke":
        return Accelerator(GPU, gpu.count, {"cloud.google.com/gke-accelerator": gpu.type}, GPU)
    if not gpu.type and chosen:  # the step's own labels find the node
        return Accelerator(GPU, gpu.count, {}, GPU)
    label = {"nvidia.com/gpu.product": gpu.type} if gpu.type else {"nvidia.com/gpu.present": "true"}
    return Accelerator(GPU, gpu.count, label, GPU)
