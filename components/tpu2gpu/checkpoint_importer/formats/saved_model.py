"""SavedModels, those in training form or made for TPUs among them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from tpu2gpu.checkpoint_importer.formats.base import ImportedModel, SourceFormat, WeightsFormat
from tpu2gpu.checkpoint_importer.formats.keras_files import KerasArrays
from tpu2gpu.checkpoint_importer.options import ImportOptions, parse_fixed, parse_inputs, parse_outputs
from tpu2gpu.graphs.formats.checkpoint_tensors import object_names
from tpu2gpu.graphs.formats.detection import find_saved_model
from tpu2gpu.graphs.formats.restore_ops import Restored
from tpu2gpu.graphs.formats.saved_model import (
    VARIABLES_PREFIX,
    choose_meta_graph,
    parse_saved_model,
    read_meta_graph,
    select_signatures,
)
from tpu2gpu.graphs.formats.variable_restore import restore_variables
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.passes.base import Changes
from tpu2gpu.graphs.passes.rename_variables import new_name, parse_rules
from tpu2gpu.graphs.passes.to_inference import run_extra, serve_if_trained, serve_meta_graph, with_extra
from tpu2gpu.graphs.passes.training.fix_inputs import fix_inputs
from tpu2gpu.graphs.passes.training.prune_to_serving import clear_attributes
from tpu2gpu.graphs.passes.training.replace_infeeds import Input
from tpu2gpu.graphs.passes.training.state_shapes import state_shapes
from tpu2gpu.graphs.stablehlo.idle_assigns import drop_idle_assigns
from tpu2gpu.storage.paths import Place


@attrs.frozen
class SavedModel(SourceFormat):
    """A SavedModel, by its folder."""

    kind = "SavedModel"

    @classmethod
    def detect(cls, path: Place, step: int | None = None) -> SavedModel | None:
        """Find a SavedModel by its folder or the file in it."""
        folder = find_saved_model(path)
        return None if folder is None else cls(folder)

    def read(self, options: ImportOptions) -> ImportedModel:
        """Read it with its signatures, unless the options cut a graph of their own.

        One that is in training form, or made for TPUs, is brought to the form for serving.
        """
        prefix, fixed = self.path / VARIABLES_PREFIX, parse_fixed(options.fix)
        passes = with_extra(options.extra_pass, fixed)
        inputs, outputs = parse_inputs(options.input), parse_outputs(options.output)
        keeps_signatures = not outputs and all(given.is_stated for given in inputs)
        meta = self._meta_graph(options, inputs if keeps_signatures else ())
        changes: Changes = {}

        def read() -> ServingModel:
            nonlocal changes
            model = read_meta_graph(meta, self.path, prefix)
            changes = fix_inputs(model, fixed)
            return model

        if keeps_signatures:
            served = serve_if_trained(read, lambda: meta, self.path, prefix, passes=passes)
        else:
            served = serve_meta_graph(meta, prefix, inputs, outputs, passes=passes)
        if served.changes:
            changes = served.changes
        else:
            clear_attributes(served.model)
            changes = {**changes, **run_extra(served.model, options.extra_pass)}
        return ImportedModel(served.model, changes, None, served.batch, tags=tuple(sorted(meta.meta_info_def.tags)))

    def load_weights(self, weights: WeightsFormat, options: ImportOptions) -> ImportedModel:
        """Take the graph, and each variable's value from elsewhere, by the variable's name."""
        found = self.read(options)
        model, rules = found.model, parse_rules(options.rename)
        trainable = {name for name, variable in model.variables.items() if variable.trainable}
        own = {name: Restored(variable.key) for name, variable in model.variables.items()}
        opened = weights.open_weights()
        if isinstance(opened, KerasArrays):
            opened = opened.name_like(model)
        model.bundle, model.variables = opened, {}
        restored = restore_variables(
            model,
            own,
            trainable,
            use_ema=options.use_ema,
            drop=options.drop,
            rename=lambda name: new_name(name, rules),
            names=object_names(opened),
        )
        return attrs.evolve(found, restored=restored)

    @property
    def heeds(self) -> frozenset[str]:
        """The tags as well."""
        return super().heeds | {"tag"}

    def _meta_graph(self, options: ImportOptions, stated: Iterable[Input]) -> Any:
        """Read the graph with chosen signatures alone, so that nothing which only others need stands in the way."""
        tags = [tag for tag in options.tag.split(",") if tag]
        meta = choose_meta_graph(parse_saved_model(self.path), self.path, tags)
        select_signatures(meta, options.signature)
        state_shapes(meta, stated)
        if not options.keep_stablehlo:
            drop_idle_assigns(meta)
        return meta
