"""The contract of graph passes, and passes in a row with a check behind the last."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any, ClassVar

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.model import ServingModel

# What passes changed: names of nodes, or figures, under the keys that reports give them. Plain data, as JSON knows it.
Changes = Mapping[str, Any]
_ONE_OF_MANY = re.compile(r"(\b1 .*?\w)s\b")


class Pass(ABC):
    """A rewrite of a model in place.

    A new pass is one class, which says what it needs and what it did, and one line in the sequence that runs it.

    Attributes:
        PHRASES: For keys of its changes a phrase for `summary`, with `{}` for how many there are.
    """

    PHRASES: ClassVar[Mapping[str, str]] = {}

    @property
    def name(self) -> str:
        """The name of the pass in errors."""
        return type(self).__name__

    def requires(self, model: ServingModel) -> Iterable[str]:
        """List what must not be there when the pass starts: nodes, each with the reason; nothing by default."""
        return ()

    @abstractmethod
    def run(self, model: ServingModel) -> Changes:
        """Rewrite a model.

        Args:
            model: The model, changed in place.

        Returns:
            What changed; nothing where there was nothing to do.
        """

    def summary(self, changes: Changes) -> list[str]:
        """Tell what changed in phrases that follow "import", such as `removes 4 dropouts`.

        Args:
            changes: What `run` returned, possibly among the changes of other passes.
        """
        counts = {key: len(it) if isinstance(it, Sized) else it for key, it in changes.items() if key in self.PHRASES}
        phrases = {key: phrase.format(counts[key]) for key, phrase in self.PHRASES.items() if counts.get(key)}
        return [_ONE_OF_MANY.sub(r"\1", it, count=1) if counts[key] == 1 else it for key, it in phrases.items()]


class Sequential(Pass):
    """Passes in a row, each after a check of what it requires.

    Args:
        passes: The passes, in their order.
        check: Looks at the model after the last one, and raises where something is left that must be gone.
    """

    def __init__(self, passes: Iterable[Pass], check: Callable[[ServingModel], None] = lambda model: None) -> None:
        self.passes = tuple(passes)
        self._check = check

    def run(self, model: ServingModel) -> Changes:
        """Run all passes.

        Returns:
            The changes of all of them; two passes that use one key must not stand in one row.

        Raises:
            GraphError: A pass finds what it requires to be gone, or something is left after the last one.
        """
        changes: dict[str, Any] = {}
        for each in self.passes:
            if found := list(each.requires(model)):
                raise GraphError(f"{each.name}: cannot work on this graph", details=found)
            changes.update(each.run(model))
        self._check(model)
        return changes

    def summary(self, changes: Changes) -> list[str]:
        """Tell what all passes changed, in their order."""
        return [words for each in self.passes for words in each.summary(changes)]
