"""SavedModels, those in training form or made for TPUs among them."""

from __future__ import annotations

import attrs

from tpu2gpu.checkpoint_importer.formats.base import ImportedModel, SourceFormat, WeightsFormat
from tpu2gpu.checkpoint_importer.formats.keras_files import KerasArrays
from tpu2gpu.checkpoint_importer.options import ImportOptions, parse_inputs, parse_outputs
from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.formats.checkpoint_tensors import object_names
from tpu2gpu.graphs.formats.detection import find_saved_model
from tpu2gpu.graphs.formats.restore_ops import Restored
from tpu2gpu.graphs.formats.saved_model import (
    VARIABLES_PREFIX,
    choose_meta_graph,
    parse_saved_model,
    read_saved_model,
)
from tpu2gpu.graphs.formats.variable_restore import restore_variables
from tpu2gpu.graphs.passes.rename_variables import new_name, parse_rules
from tpu2gpu.graphs.passes.to_inference import run_extra, serve_meta_graph, with_extra
from tpu2gpu.graphs.passes.training.prune_to_serving import clear_attributes
from tpu2gpu.graphs.passes.training.training_ops import check_inference_form
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
        if options.input or options.output:
            return self._transform(options)
        try:
            model = read_saved_model(self.path)
            check_inference_form(model, self.path)
        except GraphError as refusal:
            found = self._transform(options)
            if not found.changes:  # nothing of training was in it: the refusal had another reason
                raise refusal from None
            return found
        clear_attributes(model)
        return ImportedModel(model, run_extra(model, options.extra_pass))

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

    def _transform(self, options: ImportOptions) -> ImportedModel:
        """Bring the graph to the form for serving, its signatures kept unless others are given."""
        meta = choose_meta_graph(parse_saved_model(self.path), self.path)
        inputs, outputs = parse_inputs(options.input), parse_outputs(options.output)
        passes = with_extra(options.extra_pass)
        served = serve_meta_graph(meta, self.path / VARIABLES_PREFIX, inputs, outputs, passes=passes)
        return ImportedModel(served.model, served.changes, None, served.batch)
