"""A KServe InferenceService that serves what is promoted: it names the promotion folder, which no promotion changes.

Triton is told to poll the folder, TensorFlow Serving does so by itself. A claim is mounted as it is; from an object
store KServe copies once, when a pod starts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

KSERVE_FILE = "kserve.yaml"
POLLING = ("--model-control-mode=poll", "--repository-poll-secs=15")
"""How Triton is started to follow promotions."""

_PROMOTED = "promoted"
_LABEL_LENGTH = 63


def write_inference_service(
    folder: Path, name: str, *, on_gpu: bool, model_format: str = "triton", repository: str = "model_repository"
) -> Path:
    """Write kserve.yaml.

    Args:
        folder: The serving folder.
        name: The model's name; the service's is made of it.
        on_gpu: Whether it asks for a GPU.
        model_format: `triton` for a model repository, `tensorflow` for version folders.
        repository: What is to be copied to the cluster's storage where nothing is promoted.

    Returns:
        The file's path.

    Source: https://kserve.github.io/website/latest/modelserving/v1beta1/triton/torchscript/ for the service, and
        https://kserve.github.io/website/docs/model-serving/storage/providers/pvc for claims.
    """
    on_triton = model_format == "triton"
    model: dict[str, Any] = {
        "modelFormat": {"name": model_format},
        "protocolVersion": "v2" if on_triton else "v1",
        "storageUri": f"pvc://CLAIM/{_PROMOTED}" if on_triton else f"pvc://CLAIM/{_PROMOTED}/{name}",
    }
    if on_triton:
        model["args"] = list(POLLING)
    if on_gpu:
        model["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": service_name(name)},
        "spec": {"predictor": {"model": model}},
    }
    path = folder / KSERVE_FILE
    hint = (
        "# storageUri is the folder of `tpu2gpu promote` on a claim: whose promotions it follows; this file stays.\n"
        f"# Without promotion, copy {repository}/ to the claim under that name. From s3:// and gs:// KServe copies\n"
        "# once, when a pod starts: no promotion is followed.\n"
    )
    path.write_text(hint + yaml.safe_dump(service, sort_keys=False), encoding="utf-8")
    return path


def service_name(name: str) -> str:
    """Return a model's name as Kubernetes wants a service's: small letters, digits and dashes, a letter first.

    Source: RFC 1035, section 2.3.1, which Kubernetes asks of services.
    """
    label = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")
    if not label[:1].isalpha():
        label = f"model-{label}"
    return label[:_LABEL_LENGTH].strip("-")
