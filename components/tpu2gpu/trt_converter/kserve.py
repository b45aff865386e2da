"""A KServe InferenceService for a model repository, or for version folders."""

from __future__ import annotations

import re
from pathlib import Path

KSERVE_FILE = "kserve.yaml"


def write_inference_service(
    folder: Path, name: str, *, on_gpu: bool, model_format: str = "triton", repository: str = "model_repository"
) -> Path:
    """Writes kserve.yaml.

    Args:
        folder: The serving folder.
        name: The model's name; the service's is made of it.
        on_gpu: Whether it asks for a GPU.
        model_format: `triton` for a model repository, `tensorflow` for version folders.
        repository: What is to be copied to the cluster's storage.

    Returns:
        The file's path.

    Source: https://kserve.github.io/website/latest/modelserving/v1beta1/triton/torchscript/
    """
    service = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63].strip("-") or "model"
    lines = [
        f"# Copy {repository}/ to storage that the cluster reads, and say here where it lies.",
        "apiVersion: serving.kserve.io/v1beta1",
        "kind: InferenceService",
        "metadata:",
        f"  name: {service}",
        "spec:",
        "  predictor:",
        "    model:",
        "      modelFormat:",
        f"        name: {model_format}",
        f"      protocolVersion: {'v2' if model_format == 'triton' else 'v1'}",
        f"      storageUri: pvc://CLAIM/{repository}{'' if model_format == 'triton' else '/' + name}",
    ]
    if on_gpu:
        lines += ["      resources:", "        limits:", '          nvidia.com/gpu: "1"']
    path = folder / KSERVE_FILE
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
