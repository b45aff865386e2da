"""The contract of a source format: how it is told from others, looked at and read."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.graphs.formats.variable_restore import RestoreReport
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.passes.base import Changes
from tpu2gpu.options import flag
from tpu2gpu.storage.paths import Place

if TYPE_CHECKING:
    from tpu2gpu.checkpoint_importer.options import ImportOptions

# Options that do not count for every format, in the order in which a refusal names them.
SELECTIVE_OPTIONS = ("graph", "step", "use_ema", "drop", "input", "output", "fix")

_NOUNS = {"checkpoint_v1": "checkpoint", "hdf5": "HDF5 file", "keras": "Keras file", "npz": "file of arrays"}

GRAPH_HINT = "give --graph: a SavedModel, a .meta or .pb file, or package.module:function that builds it"


@attrs.define
class ImportedModel:
    """A serving model, and how it came about.

    Attributes:
        model: The model.
        changes: What the graph went through.
        restored: What became of the checkpoint's tensors, None without a checkpoint.
        batch: Examples in each step of training on one core, where the inputs tell.
        keep_alive: What must live until the model is written.
        tags: The tags of the graph, in a SavedModel.
    """

    model: ServingModel
    changes: Changes
    restored: RestoreReport | None = None
    batch: int | None = None
    keep_alive: Any = None
    tags: tuple[str, ...] = ()


@attrs.frozen
class SourceFormat(abc.ABC):
    """A training output in one format, at a path.

    One class and one line in `registry.FORMATS` make a format that `inspect` and `import` take.

    Attributes:
        kind: What reports call the format.
        path: The folder, the file or the checkpoint's prefix.
        step: The step of training, where a name tells it.
    """

    kind: ClassVar[str]
    path: Place
    step: int | None = None

    @classmethod
    @abc.abstractmethod
    def detect(cls, path: Place, step: int | None = None) -> SourceFormat | None:
        """Return what lies at a path as a source in this format, None where it is in another one.

        Args:
            path: What the user gave.
            step: The step of training that is wanted from a training folder; the newest when not given.
        """

    @property
    def noun(self) -> str:
        """What messages call such a source, behind an article."""
        return _NOUNS.get(self.kind, self.kind)

    @property
    def heeds(self) -> frozenset[str]:
        """The options of `SELECTIVE_OPTIONS` that count here; a given one that does not is refused."""
        return frozenset({"input", "output", "fix"})

    @abc.abstractmethod
    def read(self, options: ImportOptions) -> ImportedModel:
        """Read the source as a serving model.

        Raises:
            Tpu2GpuError: It cannot be read, or cannot serve.
        """

    def inspect(self) -> dict[str, Any]:
        """Report what the files tell, by subject, beside the serving model that they would become."""
        return {}

    def load_weights(self, weights: WeightsFormat, options: ImportOptions) -> ImportedModel:
        """Serve the graph that lies here, which `--graph` names, with the weights of another source.

        Raises:
            UsageError: No graph lies here.
            Tpu2GpuError: Weights and graph do not fit, or the graph cannot serve.
        """
        raise UsageError(
            f"--graph {self.path}: a {self.noun} holds no graph", hint="give a SavedModel, or a .meta or .pb file"
        )

    def check_options(self, options: ImportOptions) -> None:
        """Check that every option that is given counts for this source.

        Raises:
            UsageError: Some do not; all are listed.
        """
        heeds = self.heeds
        if options.tag and not options.graph and "tag" not in heeds:
            raise UsageError(f"--tag {options.tag}: graphs of a SavedModel have tags, a {self.noun} has none")
        if options.custom_objects and "custom_objects" not in heeds:
            modules = ", ".join(options.custom_objects)
            raise UsageError(f"--custom-objects {modules}: a {self.noun} needs no classes of Keras to be read")
        if options.graph and "graph" in heeds:  # with it, the source is no more than weights
            return
        default = type(options)()
        given = [name for name in SELECTIVE_OPTIONS if getattr(options, name) != getattr(default, name)]
        if idle := [flag(name) for name in given if name not in heeds]:
            raise UsageError(
                f"{', '.join(idle)}: nothing for a {self.noun}, which has a graph of its own and its weights in it",
                hint="give a checkpoint as SOURCE; a SavedModel's is FOLDER/variables/variables, with --graph FOLDER",
            )


class WeightsFormat(SourceFormat):
    """A format of weights that another source's graph, named with `--graph`, can take."""

    @property
    def heeds(self) -> frozenset[str]:
        """All of them: weights are chosen, and the graph that takes them is cut."""
        return frozenset(SELECTIVE_OPTIONS)

    @abc.abstractmethod
    def open_weights(self) -> Any:
        """Open the weights as a `Bundle`, or as `Arrays` with its face; values are read when they are asked for.

        Raises:
            SourceError: A file is missing or damaged.
            CheckpointError: The checkpoint is damaged.
        """

    def fill_keras(self, model: Any) -> bool:
        """Let Keras fill a model of its own, where it reads this format; otherwise return False."""
        return False
