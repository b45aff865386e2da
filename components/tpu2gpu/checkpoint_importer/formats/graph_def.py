"""Frozen graphs (`.pb`), whose weights become variables again; a bare GraphDef takes another source's weights too."""

from __future__ import annotations

from typing import Any

import attrs

from tpu2gpu.checkpoint_importer.formats.base import ImportedModel, SourceFormat, WeightsFormat
from tpu2gpu.checkpoint_importer.formats.meta_graph import serve_training_graph
from tpu2gpu.checkpoint_importer.options import ImportOptions, parse_fixed, parse_inputs, parse_outputs
from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.formats.detection import GRAPH_DEF, graph_kind
from tpu2gpu.graphs.formats.graph_def import FROZEN_GRAPH_FILE, SIGNATURE_FILE, read_graph_def
from tpu2gpu.graphs.formats.meta_graph import parse_graph_file
from tpu2gpu.graphs.model import DEFAULT_SIGNATURE, ServingModel
from tpu2gpu.graphs.passes.freezing.find_weights import WeightFinder
from tpu2gpu.graphs.passes.freezing.unfreeze_constants import UnfreezeConstants
from tpu2gpu.graphs.passes.to_inference import run_extra, to_inference, with_extra
from tpu2gpu.graphs.passes.training.fix_inputs import fix_inputs
from tpu2gpu.graphs.passes.training.training_ops import check_inference_form
from tpu2gpu.storage.paths import Place


@attrs.frozen
class GraphDef(SourceFormat):
    """A GraphDef, in a file or in the folder that `freeze` wrote."""

    kind = GRAPH_DEF

    @classmethod
    def detect(cls, path: Place, step: int | None = None) -> GraphDef | None:
        """Find a GraphDef by its name or content, or the one in the folder that `freeze` wrote."""
        if (path / FROZEN_GRAPH_FILE).is_file():
            return cls(path / FROZEN_GRAPH_FILE)
        return cls(path) if graph_kind(path) == GRAPH_DEF else None

    def read(self, options: ImportOptions) -> ImportedModel:
        """Serve a frozen graph, with variables for its weights."""
        inputs, outputs = parse_inputs(options.input), parse_outputs(options.output)
        fixed = parse_fixed(options.fix)
        model = read_graph_def(self.path)
        try:
            if inputs or outputs or not self._has_signature:
                raise GraphError("inputs and outputs are given, or to be told")
            changes = fix_inputs(model, fixed)
            check_inference_form(model, self.path)
        except GraphError:
            signature = model.signatures[DEFAULT_SIGNATURE]
            wanted = outputs or {key: info.name for key, info in signature.outputs.items()}
            served = to_inference(_meta_graph(model), inputs, wanted, passes=with_extra(options.extra_pass, fixed))
            model, changes = served.model, served.changes
        else:
            changes = {**changes, **run_extra(model, options.extra_pass)}
        UnfreezeConstants(WeightFinder(model).find()).run(model)
        return ImportedModel(model, changes)

    @property
    def _has_signature(self) -> bool:
        """Tell whether a file beside the graph names its inputs and outputs."""
        return bool(self.path.with_name(SIGNATURE_FILE).is_file())

    def load_weights(self, weights: WeightsFormat, options: ImportOptions) -> ImportedModel:
        """Serve the graph with the weights of a checkpoint."""
        return serve_training_graph(parse_graph_file(self.path), weights, options)


def _meta_graph(model: ServingModel) -> Any:
    from tensorflow.core.protobuf import meta_graph_pb2

    meta = meta_graph_pb2.MetaGraphDef()
    meta.graph_def.node.extend(model.nodes.values())
    meta.graph_def.library.function.extend(model.functions.values())
    meta.graph_def.versions.CopyFrom(model.versions)
    return meta
