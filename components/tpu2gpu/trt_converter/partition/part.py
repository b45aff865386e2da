"""A part of a partitioned model, and the partition."""

from __future__ import annotations

from typing import Any

import attrs

from tpu2gpu.graphs.model import ServingModel


@attrs.define
class ModelPart:
    """One part of a model.

    Attributes:
        name: `pre`, `core` or `post`.
        model: The part as a model; its signature's inputs and outputs have the names of tensors of the whole.
        takes: The tensors that it takes: inputs of the whole model, or boundary tensors.
        gives: The tensors that it gives: boundary tensors, or outputs of the whole model.
        nodes: Its own nodes.
    """

    name: str
    model: ServingModel
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    nodes: list[str]


@attrs.frozen
class Partition:
    """A model in parts.

    Attributes:
        parts: In the order in which they run.
        output_tensors: For each output of the signature the tensor that it is.
        report: For each part its ops, FLOPs and why; for each boundary tensor its parts and bytes.
        certain: Whether the whole cannot be converted for sure.
    """

    parts: list[ModelPart]
    output_tensors: dict[str, str]
    report: dict[str, Any]
    certain: bool
