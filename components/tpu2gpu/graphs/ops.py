"""Ops and types that several modules name: one set for each idea, by TensorFlow's names and DataType numbers."""

from __future__ import annotations

import re

from tpu2gpu.tensorbundle.format import DTYPE_ENUMS, FIRST_REFERENCE_TYPE

DT_FLOAT = DTYPE_ENUMS["float32"]
DT_DOUBLE = DTYPE_ENUMS["float64"]
DT_HALF = DTYPE_ENUMS["float16"]
DT_BFLOAT16 = DTYPE_ENUMS["bfloat16"]
DT_INT32 = DTYPE_ENUMS["int32"]
DT_INT64 = DTYPE_ENUMS["int64"]
DT_BOOL = DTYPE_ENUMS["bool"]
DT_STRING, DT_RESOURCE, DT_VARIANT = 7, 20, 21
REFERENCE = FIRST_REFERENCE_TYPE  # added to a DataType's number for a reference to such a tensor

PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
REF_VARIABLES = ("VariableV2", "Variable")  # TensorFlow 1's reference variables
ASSIGNS = ("Assign", "AssignVariableOp")

# Control flow of TensorFlow 2: functions that an op calls.
LOOPS = ("While", "StatelessWhile")
IFS = ("If", "StatelessIf")
CASES = ("Case", "StatelessCase")
CALLS = ("PartitionedCall", "StatefulPartitionedCall")

# Control flow of TensorFlow 1: ops among the others of a graph.
ENTERS = ("Enter", "RefEnter")
EXITS = ("Exit", "RefExit")
SWITCHES = ("Switch", "RefSwitch")
MERGES = ("Merge", "RefMerge")
NEXT_ITERATIONS = ("NextIteration", "RefNextIteration")
V1_CONTROL_FLOW = frozenset([*ENTERS, *EXITS, *SWITCHES, *MERGES, *NEXT_ITERATIONS, "LoopCond"])

# Values pass through these as they are.
PASSTHROUGH = frozenset(
    """Identity Enter RefEnter Exit RefExit StopGradient PreventGradient Snapshot CheckNumerics EnsureShape
    TPUReplicatedInput TPUReplicatedOutput NextIteration PlaceholderWithDefault""".split()
)
ADDS = ("Add", "AddV2")
DIVISIONS = ("RealDiv", "Div")
COMPARISONS = ("GreaterEqual", "Greater", "Less", "LessEqual")

TPU_OPS = re.compile(
    r".*TPU.*|Infeed.*|Outfeed.*|CrossReplicaSum|CollectivePermute|AllToAll|XlaHostCompute.*|_Xla(Send|Recv).*"
)
RANDOM = re.compile(r"(Stateless)?Random(Uniform|StandardNormal)(V2|Full.*)?|StatefulUniform|StatelessRandomUniformV2")
# Ops that change what lasts: variables, tables, files.
WRITES = re.compile(
    r"Assign(Add|Sub)?(VariableOp)?|ResourceApply.*|Resource(Sparse|Scatter).*|Apply[A-Z].*|SparseApply.*"
    r"|Scatter(Add|Sub|Mul|Div|Min|Max|Update|NdUpdate|NdAdd|NdSub)|LookupTable(Insert|Remove|Import).*"
    r"|InitializeTable.*|CountUpTo|SaveV2|WriteFile"
)

# Quantisation that a network emulates in floating point, as it was trained for 8 bits.
FAKE_QUANTS = ("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")
ROUND_TRIPS = ("QuantizeAndDequantizeV2", "QuantizeAndDequantizeV3", "QuantizeAndDequantizeV4")
