"""A part of a partitioned model, and the partition."""

from __future__ import annotations

from typing import Any

import attrs

from tpu2gpu.graphs.model import ServingModel


@attrs.define
class Part:
    """One part of a model.

    Attributes:
        name: `pre`, `core` or `post`.
        model: It as a model whose signature's inputs and outputs go by the names of wires.
        wires_in: The wires that it takes.
        wires_out: The wires that it gives.
        nodes: Its own nodes.
    """

    name: str
    model: ServingModel
    wires_in: dict[str, str]
    wires_out: dict[str, str]
    nodes: list[str]


@attrs.frozen
class Split:
    """A model in parts.

    Attributes:
        parts: In the order in which they run.
        output_tensors: For each output of the signature its wire.
        report: For each part its ops, operations and why; for each cut its tensors and bytes.
        certain: Whether the whole cannot be converted for sure.
    """

    parts: list[Part]
    output_tensors: dict[str, str]
    report: dict[str, Any]
    certain: bool
