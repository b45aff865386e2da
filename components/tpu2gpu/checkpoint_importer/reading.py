"""Reads a source in any format as a serving model, with its own graph or with another that `--graph` names."""

from __future__ import annotations

from tpu2gpu.checkpoint_importer.formats.base import ImportedModel, SourceFormat, WeightsFormat
from tpu2gpu.checkpoint_importer.formats.built_graph import load_weights_into_built
from tpu2gpu.checkpoint_importer.formats.registry import find_source
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import UsageError
from tpu2gpu.storage.paths import place


def read_source(source: SourceFormat, options: ImportOptions) -> ImportedModel:
    """Read a source as a serving model.

    Args:
        source: What was found at the path.
        options: What to import, and how.

    Raises:
        UsageError: An option does not count for this source, or `--graph` names no graph.
        Tpu2GpuError: It cannot be read, or cannot serve.
    """
    source.check_options(options)
    if not options.graph or not isinstance(source, WeightsFormat):
        return source.read(options)
    path = place(options.graph)
    if path.exists():
        return find_source(path).load_weights(source, options)
    if ":" in options.graph:
        return load_weights_into_built(source, options)
    raise UsageError(
        f"--graph {options.graph}: neither there nor of the form package.module:function", hint="check the path"
    )
