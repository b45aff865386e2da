"""Arguments of ops: how many tensors each stands for in a node, of which types, and where the node holds these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.ops import REFERENCE

# A node's attributes by name: its own map, or a dict of what was read out of that, which is faster to look into.
Attributes = Mapping[str, Any]


@attrs.frozen
class TypeSlot:
    """Where a tensor's type stands: in a node's attribute, at a place of a list attribute, or fixed by the op.

    Attributes:
        fixed: The DataType number, or 0 when an attribute holds it.
        attribute: Name of the attribute.
        position: Index within a list attribute, None for a plain one.
        is_ref: Whether the argument is a reference to a TF1 variable.
        default: The DataType number where the node leaves the attribute out; 0 where the op has no default.
    """

    fixed: int = 0
    attribute: str = ""
    position: int | None = None
    is_ref: bool = False
    default: int = 0

    def type_of(self, node: Any) -> int:
        """Return the DataType number of this tensor of a node; 0 where neither the node nor a default tells it."""
        if self.fixed:
            return self.fixed
        attributes = node.attr
        if self.attribute not in attributes:  # asking for it would put an empty one into the node
            return self.default
        attribute = attributes[self.attribute]
        return int(attribute.type if self.position is None else attribute.list.type[self.position])

    def set_type(self, node: Any, dtype: int) -> None:
        """Give this tensor of a node another type.

        Raises:
            GraphError: The op fixes the type.
        """
        if self.fixed:
            raise GraphError(f"node {node.name}: {node.op} fixes a type that should change")
        if self.position is None:
            node.attr[self.attribute].type = dtype
        else:
            node.attr[self.attribute].list.type[self.position] = dtype


@attrs.frozen
class Argument:
    """An input or an output of an op.

    Attributes:
        name: What the op calls it.
        number: The attribute that says how many tensors it is; nothing where it is one.
        types: The attribute that lists their types; nothing where they have one.
        slot: Where the type of each stands; nothing where they are listed.
    """

    name: str
    number: str
    types: str
    slot: TypeSlot | None

    @classmethod
    def of(cls, definition: Any, defaults: Attributes) -> Argument:
        """Return an ArgDef in this form.

        Args:
            definition: The ArgDef.
            defaults: Of the op's attributes.
        """
        it, slot = definition, None
        if not it.type_list_attr:
            default = defaults[it.type_attr].type if it.type_attr in defaults else 0
            slot = TypeSlot(it.type, it.type_attr, is_ref=it.is_ref, default=default)
        return cls(it.name, it.number_attr, it.type_list_attr, slot)

    @property
    def several(self) -> bool:
        """Tell whether a node says how many tensors it is."""
        return bool(self.number or self.types)

    def count(self, attributes: Attributes, defaults: Attributes) -> int:
        """Return how many tensors it stands for in a node."""
        if self.types:
            return len(_value(attributes, self.types, defaults).list.type)
        return int(_value(attributes, self.number, defaults).i) if self.number else 1

    def slots(self, attributes: Attributes, defaults: Attributes) -> Iterator[TypeSlot]:
        """Yield where the type of each of its tensors stands."""
        if self.slot is not None:
            yield from [self.slot] * self.count(attributes, defaults)
            return
        for position, dtype in enumerate(_value(attributes, self.types, defaults).list.type):
            yield TypeSlot(attribute=self.types, position=position, default=dtype)

    def dtypes(self, attributes: Attributes, defaults: Attributes, most: int) -> list[int]:
        """Return the types of its tensors, of so many at most."""
        if self.slot is None:
            return list(_value(attributes, self.types, defaults).list.type[:most])
        fixed, name, default, reference = _plain(self.slot)
        dtype = (fixed or (attributes[name].type if name in attributes else default)) + reference
        return [dtype] * min(self.count(attributes, defaults), most)


@attrs.frozen
class Arguments:
    """The inputs, or the outputs, of an op.

    Attributes:
        all: One after the other.
        defaults: Of the op's attributes; an empty one where there is no default.
        slots: Where the types of their tensors stand; None where this depends on the node.
        plain: The same, each as the fixed type, the attribute, the default, and what to add for a reference.
    """

    all: tuple[Argument, ...]
    defaults: Attributes
    slots: tuple[TypeSlot, ...] | None
    plain: tuple[tuple[int, str, int, int], ...] | None

    @classmethod
    def of(cls, definitions: Iterable[Any], defaults: Attributes) -> Arguments:
        """Return ArgDefs in this form."""
        found = tuple(Argument.of(it, defaults) for it in definitions)
        if any(it.several for it in found):
            return cls(found, defaults, None, None)
        slots = tuple(it.slot for it in found if it.slot is not None)
        return cls(found, defaults, slots, tuple(_plain(it) for it in slots))

    def slots_of(self, node: Any) -> Sequence[TypeSlot]:
        """Return where the type of each tensor of a node stands."""
        if self.slots is not None:
            return self.slots
        attributes = node.attr
        return [slot for argument in self.all for slot in argument.slots(attributes, self.defaults)]

    def count(self, attributes: Attributes) -> int:
        """Return how many tensors they stand for in a node."""
        return len(self.all) if self.slots is not None else sum(it.count(attributes, self.defaults) for it in self.all)

    def dtypes(self, attributes: Attributes, most: int) -> list[int]:
        """Return the types of the tensors of a node, of so many at most.

        Args:
            attributes: The node's.
            most: So many types at most.
        """
        if self.plain is not None:  # by far the most nodes, and large graphs have a million
            return [
                (fixed or (attributes[name].type if name in attributes else default)) + reference
                for fixed, name, default, reference in self.plain
            ]
        found: list[int] = []
        for argument in self.all:
            found += argument.dtypes(attributes, self.defaults, most - len(found))
        return found

    def by_name(self, attributes: Attributes, most: int) -> dict[str, list[int]]:
        """Return the types of the tensors of each argument, of so many at most."""
        return {it.name: it.dtypes(attributes, self.defaults, most) for it in self.all}


def _plain(slot: TypeSlot) -> tuple[int, str, int, int]:
    return slot.fixed, slot.attribute, slot.default, REFERENCE * slot.is_ref


def _value(attributes: Attributes, name: str, defaults: Attributes) -> Any:
    """Return an attribute, the op's default where the node leaves it out: a look at it in the node would add it."""
    return attributes[name] if name in attributes else defaults[name]
