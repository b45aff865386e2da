"""Arguments of ops: how many tensors each stands for in a node, and of which types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tpu2gpu.graphs.ops import REFERENCE


@attrs.frozen
class Argument:
    """An input or an output of an op.

    Attributes:
        name: What the op calls it.
        number: The attribute that says how many tensors it is; nothing where it is one.
        types: The attribute that lists their types; nothing where they have one.
        dtype: Their DataType number, 0 where an attribute holds it.
        type_attribute: That attribute.
        is_reference: Whether it is a reference to a variable of TensorFlow 1.
    """

    name: str
    number: str
    types: str
    dtype: int
    type_attribute: str
    is_reference: bool

    @classmethod
    def of(cls, definition: Any) -> Argument:
        """Return an ArgDef in this form."""
        it = definition
        return cls(it.name, it.number_attr, it.type_list_attr, it.type, it.type_attr, it.is_ref)

    @property
    def several(self) -> bool:
        """Tell whether a node says how many tensors it is."""
        return bool(self.number or self.types)

    def count(self, node: Any, defaults: Mapping[str, Any]) -> int:
        """Return how many tensors it stands for in a node."""
        if self.types:
            return len(_value(node, self.types, defaults).list.type)
        return int(_value(node, self.number, defaults).i) if self.number else 1


def dtypes(arguments: Iterable[Argument], node: Any, defaults: Mapping[str, Any], most: int) -> list[int]:
    """Return the types of arguments in a node one after the other, of so many tensors at most."""
    found: list[int] = []
    for argument in arguments:  # in one piece, since large graphs have a million
        if argument.types:
            found += _value(node, argument.types, defaults).list.type[: most - len(found)]
            continue
        name = argument.type_attribute
        dtype = argument.dtype or (node.attr[name].type if name in node.attr else defaults[name].type)
        if argument.is_reference:
            dtype += REFERENCE
        if argument.number:
            found += [dtype] * min(argument.count(node, defaults), most - len(found))
        else:
            found.append(dtype)
    return found


def _value(node: Any, name: str, defaults: Mapping[str, Any]) -> Any:
    """Return an attribute, the op's default where the node leaves it out: a look at it in the node would add it."""
    return node.attr[name] if name in node.attr else defaults[name]
