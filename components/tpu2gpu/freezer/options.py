"""Options and result of `freeze_model`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.graphs.trust.trust_option import trust_option
from tpu2gpu.options import KnownNames, option

FORMATS = ("saved_model", "graph_def", "both")


# A protocol buffer larger than this cannot be parsed.
MAX_GRAPH_BYTES = (1 << 31) - 1


_SMALLEST_GRAPH_BYTES = 1 << 14


@attrs.frozen(kw_only=True)
class FreezeOptions(KnownNames):
    """The options of a freeze.

    Attributes:
        checkpoint: The checkpoint of a `.meta` or `.pb` source, without `.index`.
        output: What such a source's signature returns: `NODE`, `NODE:INDEX` or `KEY=NODE:INDEX`.
        format: A SavedModel, a GraphDef (`frozen_graph.pb` with `signature.json`), or both in one folder.
        signature: The signatures to keep; all when none is named.
        to_inference: Bring a graph in training form to the form for serving, instead of refusing it.
        clean: Take out identities and control dependencies that change nothing; outputs keep their bits.
        fold_constants: Compute what depends on constants alone; outputs keep their bits, weights do not stay by name.
        fold_batch_norm: Multiply batch norms into the convolutions before them; outputs change in their last bits.
        trust: What the model may do besides computing.
        split_weights: Keep the largest weights as variables where the graph would be too large.
        max_graph_bytes: How large the graph may be.
    """

    checkpoint: str = option("", "checkpoint of a .meta or .pb SOURCE, without .index", metavar="PREFIX")
    output: tuple[str, ...] = option((), "output of a .meta or .pb SOURCE", metavar="[KEY=]NODE[:INDEX]")
    format: str = option("saved_model", "what to write", choices=FORMATS)
    signature: tuple[str, ...] = option((), "keep this signature (default: all)", metavar="NAME")
    to_inference: bool = option(False, "bring a graph in training form to the form for serving")
    clean: bool = option(True, "take out identities and control dependencies that change nothing")
    fold_constants: bool = option(False, "compute what depends on constants alone")
    fold_batch_norm: bool = option(False, "multiply batch norms into convolutions; changes the last bits of outputs")
    trust: tuple[str, ...] = trust_option()
    split_weights: bool = option(False, "keep the largest weights as variables where the graph would be too large")
    max_graph_bytes: int = option(
        MAX_GRAPH_BYTES, "how large the graph may be", minimum=_SMALLEST_GRAPH_BYTES, metavar="N"
    )

    def __attrs_post_init__(self) -> None:
        """Check what options say together."""
        if self.max_graph_bytes > MAX_GRAPH_BYTES:
            raise UsageError(f"--max-graph-bytes {self.max_graph_bytes}: protobuf allows {MAX_GRAPH_BYTES}")
        if self.split_weights and self.format != "saved_model":
            raise UsageError("--split-weights: a GraphDef has no variables", hint="leave out --format")
        if self.output and not self.checkpoint:
            raise UsageError("--output: names outputs of a .meta or .pb SOURCE", hint="give its --checkpoint too")


@attrs.frozen
class FreezeResult:
    """The result of a freeze.

    Attributes:
        target: The folder that was written.
        frozen_variables: How many variables became constants.
        kept_variables: How many stayed variables, because the graph would have been too large.
        size_bytes: Bytes of the constants that were variables.
        report: What `report.json` holds.
    """

    target: Path
    frozen_variables: int
    kept_variables: int
    size_bytes: int
    report: dict[str, Any]
