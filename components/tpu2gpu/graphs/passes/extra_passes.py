"""Load passes that a user adds, as `MODULE:CLASS`, behind a guard that names the pass in every error."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tpu2gpu.errors import GraphError, Tpu2GpuError, UsageError, first_line
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import producer, split_tensor
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.user_code import load_named


def load_passes(specs: Iterable[str]) -> tuple[ExtraPass, ...]:
    """Make the passes that `--extra-pass` names, in the given order.

    Raises:
        UsageError: One cannot be imported, is no Pass, cannot be made without arguments, or is named twice.
    """
    specs = tuple(specs)
    if twice := sorted({spec for spec in specs if specs.count(spec) > 1}):
        raise UsageError(f"--extra-pass {', '.join(twice)}: named twice")
    return tuple(ExtraPass(spec) for spec in specs)


class ExtraPass(Pass):
    """A user's pass; its changes stand under the `MODULE:CLASS` that names it.

    Args:
        spec: `MODULE:CLASS`; the class is made without arguments.

    Attributes:
        spec: `MODULE:CLASS`.
        source_sha256: Digest of the class's source, so that results of other code under the same name are told apart.

    Raises:
        UsageError: It cannot be imported, is no Pass, or cannot be made without arguments.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        kind = load_named(self.name, spec, "MODULE:CLASS")
        if not (isinstance(kind, type) and issubclass(kind, Pass)):
            raise UsageError(f"{self.name}: not a Pass", hint="derive the class from tpu2gpu.Pass")
        self.source_sha256 = _source_sha256(kind)
        try:
            self._pass = kind()
        except Exception as error:
            raise UsageError(f"{self.name}: cannot be made without arguments ({first_line(error)})") from error

    @property
    def name(self) -> str:
        """The flag that named the pass."""
        return f"--extra-pass {self.spec}"

    def requires(self, model: ServingModel) -> Iterable[str]:
        """List what the pass must not find."""
        with self._guarded():
            return list(self._pass.requires(model))

    def run(self, model: ServingModel) -> Changes:
        """Run the pass, and check that graph and report are sound after it.

        Raises:
            GraphError: The pass raised an error, or left a graph or changes that are not sound.
        """
        with self._guarded():
            changes = self._pass.run(model)
            plain = json.loads(json.dumps(dict(changes)))
        if broken := _broken_references(model):
            raise GraphError(f"{self.name}: leaves tensors that no node makes", details=broken)
        model.prune()
        return {self.spec: plain} if plain else {}

    def summary(self, changes: Changes) -> list[str]:
        """Tell what the pass tells of its changes."""
        with self._guarded():
            return list(self._pass.summary(changes[self.spec])) if self.spec in changes else []

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Tpu2GpuError as error:
            raise type(error)(f"{self.name}: {error.message}", details=error.details, hint=error.hint) from error
        except Exception as error:
            raise GraphError(f"{self.name}: failed with {type(error).__name__} ({first_line(error)})") from error


def _source_sha256(kind: type) -> str:
    try:
        return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
    except (OSError, TypeError):  # made at run time, in no file
        return ""


def _broken_references(model: ServingModel) -> list[str]:
    broken = [
        f"{node.name}: takes {reference}"
        for node in model.nodes.values()
        for reference in node.input
        if producer(reference) not in model.nodes
    ]
    ends = [*model.input_tensors(), *model.output_tensors()]
    return broken + [f"a signature names {tensor}" for tensor in ends if split_tensor(tensor)[0] not in model.nodes]
