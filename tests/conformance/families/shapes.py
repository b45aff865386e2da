"""Operations that move, pad, join and split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.conformance.case import Case, Const, combinations
from tests.conformance.families.indexing import TYPES, values_of


def ints(*values: int) -> Const:
    """Return a constant vector of int32."""
    return Const(np.array(values, np.int32))


def cases() -> Iterator[Case]:
    """Every operation on every type."""
    for dtype in TYPES:
        x = values_of(dtype, 2, 3, 4)
        image = values_of(dtype, 2, 4, 6, 4)
        none = x[:0]
        for label, shape in {"flat": [-1], "same": [2, -1, 2, 2], "rows": [6, 4]}.items():
            target = np.array(shape, np.int64)
            inputs = {label: {"tensor": x, "shape": Const(target)}, f"{label}, fed": {"tensor": x, "shape": target}}
            yield from combinations("Reshape", inputs)
        yield from combinations("Reshape", {"empty": {"tensor": none, "shape": ints(0, 12)}})
        yield from combinations("Reshape", {"empty to any": {"tensor": none, "shape": ints(-1, 12)}})
        for order in ([2, 0, 1], [0, 2, 1]):
            perm = np.array(order, np.int32)
            yield from combinations(
                "Transpose", {f"{order}": {"x": x, "perm": Const(perm)}, "empty": {"x": none, "perm": Const(perm)}}
            )
        yield from combinations("Transpose", {"fed": {"x": x, "perm": np.array([1, 0, 2], np.int32)}})
        for axis in (0, 1, -1):
            yield from combinations("ExpandDims", {f"axis {axis}": {"input": x, "axis": Const(np.int32(axis))}})
            yield from combinations("ConcatV2", {f"axis {axis}": {"values": [x, x, x], "axis": Const(np.int32(axis))}})
            yield from combinations(
                "ConcatV2",
                {
                    f"empty, axis {axis}": {
                        "values": [x, x[:, :, :0] if axis == -1 else x],
                        "axis": Const(np.int32(axis)),
                    }
                },
            )
            yield from combinations("Pack", {"two": {"values": [x, x]}}, axis=[axis])
            yield from combinations("Unpack", {"all": {"value": x}}, num=[x.shape[axis]], axis=[axis])
        yield from combinations("Squeeze", {"ones": {"input": x[:1, :, None]}}, axis=[[0], [2], [-2, 0]])
        yield from combinations("Squeeze", {"all": {"input": x[:1, :, None]}}, dynamic=(False,))
        yield from combinations("Split", {"two": {"axis": Const(np.int32(2)), "value": x}}, num_split=[2])
        inputs = {
            "sizes": {"value": x, "size_splits": ints(1, 3), "axis": Const(np.int32(2))},
            "rest": {"value": x, "size_splits": ints(1, -1), "axis": Const(np.int32(-1))},
        }
        yield from combinations("SplitV", inputs, num_split=[2])
        yield from combinations(
            "Tile", {"some": {"input": x, "multiples": ints(2, 1, 3)}, "none": {"input": x, "multiples": ints(0, 1, 1)}}
        )
        yield from combinations(
            "BroadcastTo",
            {"wide": {"input": x[:, :1], "shape": ints(2, 3, 4)}, "more": {"input": x, "shape": ints(2, 2, 3, 4)}},
        )
        yield from combinations(
            "Fill",
            {
                "some": {"dims": ints(2, 3), "value": x[0, 0, 0]},
                "fed": {"dims": np.array([2, 3], np.int32), "value": x[0, 0, 0]},
            },
        )
        pads = Const(np.array([[1, 0], [2, 1], [0, 2]], np.int32))
        yield from combinations(
            "Pad", {"some": {"input": x, "paddings": pads}, "empty": {"input": none, "paddings": pads}}
        )
        yield from combinations("PadV2", {"some": {"input": x, "paddings": pads, "constant_values": Const(x[1, 1, 1])}})
        yield from combinations(
            "MirrorPad",
            {"some": {"input": x, "paddings": Const(np.array([[1, 0], [2, 1], [0, 2]], np.int32))}},
            mode=["REFLECT", "SYMMETRIC"],
        )
        yield from combinations(
            "MirrorPad",
            {"whole": {"input": x, "paddings": Const(np.array([[2, 2], [3, 3], [4, 4]], np.int32))}},
            mode=["SYMMETRIC"],
        )
        yield from combinations("DepthToSpace", {"4x6": {"input": image}}, block_size=[2])
        yield from combinations("SpaceToDepth", {"4x6": {"input": image}}, block_size=[2])
        yield from combinations(
            "SpaceToBatchND",
            {
                "2x3": {
                    "input": image,
                    "block_shape": ints(2, 3),
                    "paddings": Const(np.array([[0, 2], [1, 2]], np.int32)),
                }
            },
        )
        yield from combinations(
            "BatchToSpaceND",
            {"2x1": {"input": image, "block_shape": ints(2, 1), "crops": Const(np.array([[1, 0], [1, 1]], np.int32))}},
        )
        yield from combinations(
            ["Shape", "Size"], {"some": {"input": x}, "empty": {"input": none}}, out_type=["int32", "int64"]
        )
        yield from combinations("Rank", {"some": {"input": x}})
        yield from combinations("ShapeN", {"two": {"input": [x, image]}}, out_type=["int32", "int64"])
        yield from combinations("IdentityN", {"two": {"input": [x, image]}})
        yield from combinations("EnsureShape", {"some": {"input": x}}, shape=[[None, 3, 4]])
