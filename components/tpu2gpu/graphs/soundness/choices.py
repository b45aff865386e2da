"""Values that an op allows an attribute: some types or texts, a least number, a least length."""

from __future__ import annotations

from typing import Any

import attrs

from tpu2gpu.graphs.soundness.edges import type_name


@attrs.frozen
class Choice:
    """What an attribute may be.

    Attributes:
        types: DataType numbers; any where there are none.
        texts: Texts; any where there are none.
        least: The least number, or the least length of a list; None for any.
    """

    types: frozenset[int]
    texts: frozenset[bytes]
    least: int | None

    @classmethod
    def of(cls, definition: Any, carried: Any | None) -> Choice:
        """Return what an AttrDef says, and one that a model carries: its TensorFlow may have been newer."""
        found = [it.allowed_values.list for it in (definition, carried) if it is not None]
        return cls(
            frozenset(dtype for values in found for dtype in values.type),
            frozenset(text for values in found for text in values.s),
            definition.minimum if definition.has_minimum else None,
        )

    def wrong(self, value: Any, kind: str | None) -> str:
        """Return what is wrong with an attribute's value; nothing where it is sound, or of another kind."""
        if kind == "type":
            return self._not_allowed([value.type], [])
        if kind == "s":
            return self._not_allowed([], [value.s])
        if kind == "list":
            length = sum(len(items) for _, items in value.list.ListFields())
            if self.least is not None and length < self.least:
                return f"has {length} elements, at least {self.least} are taken"
            return self._not_allowed(value.list.type, value.list.s)
        if kind == "i" and self.least is not None and value.i < self.least:
            return f"is {value.i}, at least {self.least} is taken"
        return ""

    def _not_allowed(self, types: Any, texts: Any) -> str:
        wrong = [type_name(it) for it in types if self.types and it not in self.types]
        allowed = [type_name(it) for it in sorted(self.types)] if wrong else []
        if not wrong and self.texts:
            wrong = [ascii(it)[1:] for it in texts if it not in self.texts]
            allowed = [ascii(it)[1:] for it in sorted(self.texts)]
        return f"is {wrong[0]}, taken are {', '.join(allowed)}" if wrong else ""
