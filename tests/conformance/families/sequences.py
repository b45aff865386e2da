"""Steps of recurrent networks that are one operation, and decoders of what they give."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.conformance.case import Case, Const, combinations, ramp

STATE = ("x", "cs_prev", "h_prev")


def cases() -> Iterator[Case]:
    """Blocks of LSTM and GRU; greedy and searching decoders of connectionist classification."""
    fed = {name: ramp("float32", 3, 4) for name in STATE}
    peepholes = {name: Const(ramp("float32", 4, scale=0.2)) for name in ("wci", "wcf", "wco")}
    weights = {"w": Const(ramp("float32", 8, 16, scale=0.2)), "b": Const(ramp("float32", 16, scale=0.2))}
    inputs = {"step": {**fed, **weights, **peepholes}}
    yield from combinations(
        "LSTMBlockCell", inputs, forget_bias=[1.0, 0.0], cell_clip=[-1.0, 0.5, 3.0], use_peephole=[False, True]
    )
    whole = {**inputs["step"], "x": ramp("float32", 5, 3, 4), "seq_len_max": np.array(5)}
    yield from combinations("BlockLSTMV2", {"steps": whole}, cell_clip=[0.0], use_peephole=[False])
    gates = {"w_ru": Const(ramp("float32", 8, 8, scale=0.2)), "w_c": Const(ramp("float32", 8, 4, scale=0.2))}
    biases = {"b_ru": Const(ramp("float32", 8, scale=0.2)), "b_c": Const(ramp("float32", 4, scale=0.2))}
    step = {"x": fed["x"], "h_prev": fed["h_prev"], **gates, **biases}
    yield from combinations("GRUBlockCell", {"step": step})
    steps = ramp("float32", 6, 2, 4)
    repeated = np.zeros((6, 2, 4), np.float32)
    repeated[[0, 1, 2, 3, 4, 5], 0, [1, 1, 3, 1, 2, 2]] = 9
    repeated[:, 1, 3] = 9  # nothing but blanks
    lengths = np.array([6, 4], np.int32)
    found = {"some": steps, "repeated and blank": repeated, "ties": np.zeros((6, 2, 4), np.float32)}
    decoded = {label: {"inputs": each, "sequence_length": lengths} for label, each in found.items()}
    yield from combinations("CTCGreedyDecoder", decoded, merge_repeated=[False, True], blank_index=[-1, 0])
    how = {"beam_width": [3], "top_paths": [1], "merge_repeated": [False]}
    yield from combinations("CTCBeamSearchDecoder", {"some": decoded["some"]}, **how)
