"""A MetaGraphDef (`.meta`): a training graph that takes the weights of a checkpoint."""

from __future__ import annotations

from typing import Any

import attrs

from tpu2gpu.checkpoint_importer.formats.base import SELECTIVE_OPTIONS, ImportedModel, SourceFormat, WeightsFormat
from tpu2gpu.checkpoint_importer.formats.contents import describe_training_graph
from tpu2gpu.checkpoint_importer.options import ImportOptions, parse_fixed, parse_inputs, parse_outputs
from tpu2gpu.errors import SourceError
from tpu2gpu.graphs.formats.detection import META_GRAPH, graph_kind
from tpu2gpu.graphs.formats.meta_graph import parse_graph_file
from tpu2gpu.graphs.formats.restore_ops import restored_by_saver, trainable_names
from tpu2gpu.graphs.formats.variable_restore import restore_variables
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.passes.rename_variables import new_name, parse_rules
from tpu2gpu.graphs.passes.to_inference import to_inference, with_extra
from tpu2gpu.storage.paths import Place


@attrs.frozen
class MetaGraph(SourceFormat):
    """A training graph alone, in a file."""

    kind = META_GRAPH
    heeds = frozenset(SELECTIVE_OPTIONS)  # it is refused for what it lacks, whatever is given

    @classmethod
    def detect(cls, path: Place, step: int | None = None) -> MetaGraph | None:
        """Find a MetaGraphDef by its name or content."""
        return cls(path) if graph_kind(path) == META_GRAPH else None

    def inspect(self) -> dict[str, Any]:
        """Report what the graph is made of."""
        return describe_training_graph(parse_graph_file(self.path))

    def read(self, options: ImportOptions) -> ImportedModel:
        """Refuse, for want of weights.

        Raises:
            SourceError: Always.
        """
        raise SourceError(f"{self.path}: a graph without its checkpoint", hint="give the checkpoint's prefix")

    def load_weights(self, weights: WeightsFormat, options: ImportOptions) -> ImportedModel:
        """Serve the graph with the weights of a checkpoint."""
        return serve_training_graph(parse_graph_file(self.path), weights, options)


def serve_training_graph(
    meta: Any, weights: WeightsFormat, options: ImportOptions, outputs: dict[str, str] | None = None
) -> ImportedModel:
    """Make a serving model of a training graph and the weights of a checkpoint.

    Args:
        meta: The MetaGraphDef; its nodes are changed.
        weights: Where the variables' values are.
        options: Where to cut the graph, what to return, and which tensors to take.
        outputs: Tensors by name, where the options name none; the logits before the loss when there are none either.

    Raises:
        SignatureError: Inputs or outputs are not there or cannot be told.
        GraphError: The graph cannot serve, or the checkpoint does not fit it.
    """
    ops = OpDefs(meta.meta_info_def.stripped_op_list.op)
    restored, trainable = restored_by_saver(meta, ops), trainable_names(meta)
    wanted = parse_outputs(options.output) or outputs or {}
    passes = with_extra(options.extra_pass, parse_fixed(options.fix))
    served = to_inference(meta, parse_inputs(options.input), wanted, passes=passes)
    model = served.model
    model.bundle = weights.open_weights()
    rules = parse_rules(options.rename)
    report = restore_variables(
        model,
        restored,
        trainable,
        use_ema=options.use_ema,
        drop=options.drop,
        rename=lambda name: new_name(name, rules),
    )
    return ImportedModel(model, served.changes, report, served.batch)
