"""The nodes that a StableHLO program becomes: each is made once, with the attributes that its op wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.edit import const_node, free_name
from tpu2gpu.graphs.nodes import OpDefs, join_tensor, split_tensor
from tpu2gpu.graphs.stablehlo.sizes import Size, Unknown, atom
from tpu2gpu.graphs.stablehlo.values import Sizes, Value
from tpu2gpu.tensorbundle import format

_ABSORBED_ELEMENTS = 1 << 20  # known values up to this size are repeated here, larger ones by the graph


@attrs.frozen
class Reduction:
    """A reduction that was made, to be recognised in what follows it.

    Attributes:
        op: Its op.
        ref: What it reduces.
        axes: Along which axes.
        sizes: The sizes of what it reduces.
        keeps: Whether the axes stay, as 1.
    """

    op: str
    ref: str
    axes: tuple[int, ...]
    sizes: Sizes
    keeps: bool

    @property
    def kept_sizes(self) -> Sizes:
        """The sizes of the result whose axes stay."""
        return tuple(1 if axis in self.axes else size for axis, size in enumerate(self.sizes))


class GraphBuilder:
    """Makes nodes, and tensors of values.

    Args:
        scope: What names of nodes begin with; empty in a function's body.
        taken: The names that are taken; those that are made are added.
        ops: Definitions of ops.
        outer: What makes the nodes around, where this is a function's body; tensors from there become arguments.
    """

    def __init__(self, scope: str, taken: set[str], ops: OpDefs, outer: GraphBuilder | None = None) -> None:
        self._scope, self._taken, self.ops, self._outer = scope, taken, ops, outer
        self.arguments: dict[str, str] = {}
        self.nodes: dict[str, Any] = {}
        self.dtypes: dict[str, np.dtype[Any]] = {}
        self.reductions: dict[str, Reduction] = {}
        self._made: dict[Any, str] = {}

    def emit(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Make a node, or find the same one, and return its first output.

        Args:
            op: Its op.
            *inputs: Its inputs; lists of tensors stand one after another.
            name: What to call it; its op when not given.
            **attributes: Its attributes; types and numbers of inputs are told by the inputs.
        """
        inputs = tuple(self.local(it) for it in inputs)
        key = (op, inputs, tuple(sorted((name, repr(value)) for name, value in attributes.items())))
        if key in self._made:
            return self._made[key]
        from tensorflow.core.framework import node_def_pb2

        node = node_def_pb2.NodeDef(name=self._free(name or op), op=op, input=inputs)
        for attribute, value in attributes.items():
            _set(node.attr[attribute], value)
        self._complete(node, inputs, attributes)
        return self._add(node, key)

    def constant(self, value: Any, name: str = "Const") -> str:
        """Make a constant, or find the same one."""
        array = np.asarray(value)
        key = ("Const", array.dtype.str, array.shape, array.tobytes())
        if key in self._made:
            return self._made[key]
        node = const_node(self._free(name), array)
        made = self._add(node, key)
        self.dtypes[made] = array.dtype
        return made

    def tensor(self, value: Value) -> str:
        """Return the tensor that holds what is held of a value."""
        if value.ref:
            return value.ref
        if value.array is not None:
            return self.constant(value.array)
        elements = value.elements or ()
        ref = self.size(elements[0]) if value.rank == 0 else self.shape(elements)
        return ref if value.dtype == np.int32 else self.cast(ref, value.dtype)

    def whole(self, value: Value) -> str:
        """Return the tensor that is the value, repeated where it is to broadcast."""
        if value.is_whole:
            return self.tensor(value)
        array = value.array
        if array is not None and all(isinstance(size, int) for size in value.sizes):
            shape = [int(size) for size in value.sizes if isinstance(size, int)]
            if np.prod(shape, dtype=np.int64) <= _ABSORBED_ELEMENTS:
                return self.constant(np.broadcast_to(array, shape))
        return self.emit("BroadcastTo", self.tensor(value), self.shape(value.sizes))

    def cast(self, ref: str, dtype: Any) -> str:
        """Return a tensor in another type."""
        return self.emit("Cast", ref, DstT=np.dtype(dtype))

    def cast_to_int32(self, ref: str) -> str:
        """Return a tensor of integers as int32, which shapes and places are in."""
        return ref if self.dtype_of(ref) == np.int32 else self.cast(ref, np.int32)

    def size(self, size: Size) -> str:
        """Return the tensor of a size, an int32."""
        if not isinstance(size, Unknown):
            return self.constant(np.int32(size))
        total = ""
        for product, factor in size.terms:
            term = self.constant(np.int32(factor)) if factor != 1 or not product else ""
            for name in product:
                term = self.emit("Mul", term, name) if term else name
            total = self.emit("AddV2", total, term) if total else term
        return total

    def shape(self, sizes: Sequence[Size]) -> str:
        """Return the tensor of a shape, int32."""
        if all(isinstance(size, int) for size in sizes):
            return self.constant(np.array(sizes, np.int32))
        return self.emit("Pack", *(self.size(size) for size in sizes), axis=0, N=len(sizes))

    def size_of(self, ref: str, axis: int) -> Unknown:
        """Return one size of a tensor, as the request tells it."""
        return self.element_of(self.emit("Shape", ref, out_type=np.dtype(np.int32)), axis)

    def element_of(self, ref: str, place: int) -> Unknown:
        """Return one element of a list of sizes."""
        begin, end, step = (self.constant(np.array([it], np.int32)) for it in (place, place + 1, 1))
        element = self.emit("StridedSlice", ref, begin, end, step, shrink_axis_mask=1)
        return atom(self.cast_to_int32(element))

    def sizes_of(self, ref: str, sizes: Sequence[Size | None]) -> Sizes:
        """Return sizes, with those of a tensor where they are None."""
        return tuple(self.size_of(ref, axis) if size is None else size for axis, size in enumerate(sizes))

    def reshape(self, ref: str, sizes: Sequence[Size]) -> str:
        """Reshape a tensor; one unknown size needs no arithmetic."""
        before = self.reductions.get(ref)
        if before is not None and not before.keeps and tuple(sizes) == before.kept_sizes:
            return self.reduce(attrs.evolve(before, keeps=True))
        unknown = [size for size in sizes if not isinstance(size, int)]
        if len(unknown) == 1 and 0 not in sizes:
            return self.emit(
                "Reshape",
                ref,
                self.constant(np.array([size if isinstance(size, int) else -1 for size in sizes], np.int32)),
            )
        return self.emit("Reshape", ref, self.shape(sizes))

    def reduce(self, reduction: Reduction) -> str:
        """Reduce a tensor."""
        axes = self.constant(np.array(reduction.axes, np.int32))
        ref = self.emit(reduction.op, reduction.ref, axes, keep_dims=reduction.keeps)
        self.reductions[ref] = reduction
        return ref

    def split(self, axis: str, ref: str, count: int) -> list[str]:
        """Split a tensor into equal parts."""
        first = self.emit("Split", axis, ref, num_split=count)
        return [output(first, place) for place in range(count)]

    def transpose(self, ref: str, order: Sequence[int]) -> str:
        """Transpose a tensor, unless that leaves it as it is."""
        if list(order) == list(range(len(order))):
            return ref
        return self.emit("Transpose", ref, self.constant(np.array(order, np.int32)))

    def body(self) -> GraphBuilder:
        """Return what makes the nodes of a function that is called from here."""
        return GraphBuilder(self._scope, self._taken, self.ops, self)

    def argument(self, dtype: np.dtype[Any], outer: str = "") -> str:
        """Return a new argument of the function; for a tensor from around it, the argument that brings it."""
        if outer and outer in self.arguments:
            return self.arguments[outer]
        name = self._free("argument").rpartition("/")[2]
        name = free_name(self._taken, name)
        self._taken.add(name)
        self.dtypes[name] = np.dtype(dtype)
        if outer:
            self.arguments[outer] = name
        return name

    def local(self, ref: str) -> str:
        """Return what a tensor is called here: one from around a function is an argument of it."""
        if self._outer is None or ref in self.dtypes:
            return ref
        return self.argument(self._outer.dtype_of(ref), ref)

    def dtype_of(self, ref: str) -> np.dtype[Any]:
        """Return the type of a tensor, made here or around."""
        if ref in self.dtypes or self._outer is None:
            return self.dtypes[ref]
        return self._outer.dtype_of(ref)

    def _add(self, node: Any, key: Any) -> str:
        self.nodes[node.name] = node
        self._made[key] = node.name
        return str(node.name)

    def _free(self, wanted: str) -> str:
        name = free_name(self._taken, f"{self._scope}{wanted}")
        self._taken.add(name)
        return name

    def _complete(self, node: Any, inputs: Sequence[str], given: Mapping[str, Any]) -> None:
        """Set the types that the inputs tell, and the defaults of what nobody tells."""
        definition: Any = self.ops.find(node.op)
        place = 0
        for argument in definition.input_arg:
            if argument.type_list_attr:
                count = len(inputs) - place
                dtypes = [format.DTYPE_ENUMS[self.dtypes[it].name] for it in inputs[place:]]
                node.attr[argument.type_list_attr].list.type.extend(dtypes)
            else:
                count = node.attr[argument.number_attr].i if argument.number_attr else 1
                if argument.type_attr:
                    node.attr[argument.type_attr].type = format.DTYPE_ENUMS[self.dtypes[inputs[place]].name]
            place += count
        for attribute in definition.attr:
            if attribute.name not in node.attr and attribute.HasField("default_value"):
                node.attr[attribute.name].CopyFrom(attribute.default_value)
            allowed = attribute.allowed_values.list.type
            if allowed and attribute.type == "type" and node.attr[attribute.name].type not in allowed:
                dtype = format.DTYPE_NAMES.get(node.attr[attribute.name].type)
                raise UnsupportedError(f"{node.op}: TensorFlow has none for {dtype}")
        for index, slot in enumerate(self.ops.outputs(node) or ()):
            self.dtypes[join_tensor(node.name, index)] = format.numpy_dtype(slot.type_of(node))


def output(ref: str, index: int) -> str:
    """Return another output of the node that makes a tensor."""
    return join_tensor(split_tensor(ref)[0], index)


def _set(attribute: Any, value: Any) -> None:
    if isinstance(value, np.dtype):
        attribute.type = format.DTYPE_ENUMS[value.name]
    elif isinstance(value, bool):
        attribute.b = value
    elif isinstance(value, int):
        attribute.i = value
    elif isinstance(value, float):
        attribute.f = value
    elif isinstance(value, str):
        attribute.s = value.encode()
    elif isinstance(value, list) and value and isinstance(value[0], np.dtype):
        attribute.list.type.extend(format.DTYPE_ENUMS[it.name] for it in value)
    elif isinstance(value, list):
        attribute.list.i.extend(value)
    else:  # an AttrValue
        attribute.CopyFrom(value)
