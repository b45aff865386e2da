"""Passes: rewrites of a model in place, each a class in a file of its own.

- base: the contract, and passes in a row
- to_inference: a training graph to a serving model; PASSES is the order
- extra_passes: passes that a user adds
- training/: what those of PASSES are
- rename_variables, dynamic_batch: what every import does besides
- precision/: the type that a graph computes in
- freezing/: variables to constants and back, and what constants allow
- fused_batch_norm: the ops that compute a batch norm whole
"""
