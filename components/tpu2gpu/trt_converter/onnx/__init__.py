"""SavedModel to ONNX.

convert: the conversion, in a process of its own.
freeze: the graph that tf2onnx is given.
op_handlers, rewriters, deterministic: what tf2onnx lacks, and what it does wrong.
patterns: formulas that get one operation again: layer norm, gelu.
external_data: models of more than 2 GB.
validate: the checks that every ONNX model passes.
quantize: 8 bits.
"""
