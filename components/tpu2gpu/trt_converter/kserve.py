"""A KServe InferenceService for a model repository."""

from __future__ import annotations

import re
from pathlib import Path

KSERVE_FILE = "kserve.yaml"


def write_inference_service(folder: Path, name: str, *, on_gpu: bool) -> Path:
    """Writes kserve.yaml.

    Args:
        folder: The serving folder.
        name: The model's name; the service's is made of it.
        on_gpu: Whether it asks for a GPU.

    Returns:
        The file's path.

    Source: https://kserve.github.io/website/latest/modelserving/v1beta1/triton/torchscript/
    """
    service = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63].strip("-") or "model"
    lines = [
        "# Copy model_repository/ to storage that the cluster reads, and say here where it lies.",
        "apiVersion: serving.kserve.io/v1beta1",
        "kind: InferenceService",
        "metadata:",
        f"  name: {service}",
        "spec:",
        "  predictor:",
        "    model:",
        "      modelFormat:",
        "        name: triton",
        "      protocolVersion: v2",
        "      storageUri: pvc://CLAIM/model_repository",
    ]
    if on_gpu:
        lines += ["      resources:", "        limits:", '          nvidia.com/gpu: "1"']
    path = folder / KSERVE_FILE
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
