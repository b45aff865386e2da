"""Matrix products, bands, diagonals, inverses and transforms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.conformance.case import FLOATS, INTEGERS, Case, Const, combinations, first_output, ramp


def cases() -> Iterator[Case]:
    """Every operation, transposed and not, in batches and not."""
    for dtype in (*FLOATS, *INTEGERS):
        a, b = ramp(dtype, 3, 4), ramp(dtype, 4, 5)
        for left, right in ((False, False), (True, False), (False, True), (True, True)):
            x, y = a.T.copy() if left else a, b.T.copy() if right else b
            inputs = {
                "fed": {"a": x, "b": y},
                "weights": {"a": x, "b": Const(y)},
                "no row": {"a": x[:, :0] if left else x[:0], "b": y},
            }
            yield from combinations("MatMul", inputs, transpose_a=[left], transpose_b=[right])
            stack = {
                "stack": {"x": np.stack([x, x * 2]), "y": np.stack([y, y])},
                "broadcast": {"x": np.stack([x, x * 2])[:, None], "y": np.stack([y] * 3)[None]},
            }
            yield from combinations("BatchMatMulV2", stack, adj_x=[left], adj_y=[right])
            yield from combinations("BatchMatMul", {"stack": stack["stack"]}, adj_x=[left], adj_y=[right])
            third = {"stack": stack["stack"]}
            yield from combinations("BatchMatMulV3", third, adj_x=[left], adj_y=[right], Tout=[dtype])
        inner = {"no inner": {"a": a[:, :0], "b": b[:0]}}
        yield from combinations("MatMul", inner)
        for equation, shapes in {
            "ij,jk->ik": ((3, 4), (4, 5)),
            "bij,bjk->bik": ((2, 3, 4), (2, 4, 5)),
            "abc,cde->abde": ((2, 3, 4), (4, 2, 3)),
            "bfnh,btnh->bnft": ((1, 2, 3, 4), (1, 5, 3, 4)),
            "...i,ij->...j": ((2, 3, 4), (4, 5)),
            "ij,ij->": ((3, 4), (3, 4)),
            "ij->ji": ((3, 4),),
            "ii->i": ((3, 3),),
            "ij->j": ((3, 4),),
            "iij->ij": ((3, 3, 2),),
            "ii,ij->j": ((3, 3), (3, 4)),
            "i,j->ij": ((3,), (4,)),
            "i,i->": ((3,), (3,)),
            "ij,j->i": ((3, 4), (4,)),
            "b...d,d->b...": ((2, 3, 5, 4), (4,)),
            "...ij,...jk->...ik": ((2, 1, 3, 4), (5, 4, 2)),
            "...->...": ((2, 3),),
            "bhqk,bkhd->bqhd": ((2, 3, 4, 5), (2, 5, 3, 2)),
            "ab,cd->dbca": ((1, 2), (3, 4)),
            "abc->": ((2, 3, 4),),
            "ij,jk->ki": ((0, 4), (4, 2)),
        }.items():
            yield from combinations(
                "Einsum", {equation: {"inputs": [ramp(dtype, *shape) for shape in shapes]}}, equation=[equation]
            )
    both = {"num_lower": Const(np.int64(-1)), "num_upper": Const(np.int64(0))}
    yield from combinations("MatrixBandPart", {"bool": {"input": np.ones((3, 4), bool), **both}})
    for dtype in ("float32", "float16", "int64", "uint8"):
        square, wide = ramp(dtype, 2, 4, 4), ramp(dtype, 2, 3, 5)
        for lower, upper in ((0, 0), (-1, 0), (0, -1), (1, 2), (-1, -1)):
            bounds = {"num_lower": Const(np.int64(lower)), "num_upper": Const(np.int64(upper))}
            yield from combinations("MatrixBandPart", {f"{lower} {upper}": {"input": wide, **bounds}})
            if dtype.startswith("float"):
                infinite = np.full((3, 4), -np.inf, dtype)
                yield from combinations("MatrixBandPart", {f"-inf, {lower} {upper}": {"input": infinite, **bounds}})
        vector = ramp(dtype, 2, 3)
        yield from combinations("MatrixDiag", {"rows": {"diagonal": vector}})
        yield from combinations(["MatrixDiagPart"], {"square": {"input": square}, "wide": {"input": wide}})
        yield from combinations("MatrixSetDiag", {"square": {"input": square, "diagonal": ramp(dtype, 2, 4)}})
        padding = {"padding_value": Const(np.array(1, dtype))}
        for low, high in ((0, 0), (1, 1), (-1, 1)):
            rows = max(1, high - low + 1)
            k = {"k": Const(np.array([low, high], np.int32))}
            for name in ("MatrixDiagPartV2", "MatrixDiagPartV3"):
                yield from combinations(name, {f"k {low} {high}": {"input": wide, **k, **padding}})
            diagonal = ramp(dtype, 2, rows, 3) if rows > 1 else ramp(dtype, 2, 3)
            sizes = {"num_rows": Const(np.int32(-1)), "num_cols": Const(np.int32(-1))}
            for name in ("MatrixDiagV2", "MatrixDiagV3"):
                yield from combinations(name, {f"k {low} {high}": {"diagonal": diagonal, **k, **sizes, **padding}})
            yield from combinations(
                "MatrixSetDiagV3",
                {
                    f"k {low} {high}": {
                        "input": ramp(dtype, 2, 4, 4),
                        "diagonal": ramp(dtype, 2, rows, 4) if rows > 1 else ramp(dtype, 2, 4 - abs(low)),
                        **k,
                    }
                },
            )
    for dtype in FLOATS:
        sound = ramp(dtype, 2, 3, 3) + np.eye(3, dtype=dtype) * np.array(9, dtype)
        yield from combinations("MatrixInverse", {"3x3": {"input": sound}}, adjoint=[False, True])
        yield from combinations("MatrixDeterminant", {"3x3": {"input": sound}, "2x2": {"input": sound[:, :2, :2]}})
        yield from combinations("Cholesky", {"3x3": {"input": np.matmul(sound, sound.transpose(0, 2, 1))}})
        yield from combinations("MatrixSolve", {"3x3": {"matrix": sound, "rhs": ramp(dtype, 2, 3, 2)}})
        yield from combinations("MatrixTriangularSolve", {"3x3": {"matrix": sound, "rhs": ramp(dtype, 2, 3, 2)}})
        yield from combinations("Cross", {"rows": {"a": ramp(dtype, 4, 3), "b": ramp(dtype, 4, 3)[::-1].copy()}})
        yield from losses(dtype)


def losses(dtype: str) -> Iterator[Case]:
    """The losses without their gradients, which are the second output."""
    rows = {"rows": {"features": ramp(dtype, 3, 4), "labels": np.abs(ramp(dtype, 3, 4))}}
    yield from combinations(["SoftmaxCrossEntropyWithLogits"], rows, made_by=first_output)
    classes = {"rows": {"features": ramp(dtype, 3, 4), "labels": np.array([0, 3, 1], np.int64)}}
    yield from combinations(["SparseSoftmaxCrossEntropyWithLogits"], classes, made_by=first_output)
