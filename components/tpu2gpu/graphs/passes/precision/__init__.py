"""Passes that change the floating type that a graph computes in.

- widen: a narrow type to float32
- narrow: float32 to a narrow type, where a policy allows it
- policy: the lists of a policy
- selection: the nodes that become narrow
- sensitive: the places of a graph that a narrow type would ruin
- regions: what becomes narrow together
- rounding: the same graph in float32, with what a narrow type would round
- observed: the tensors by which rounding is judged
- retype: changes of types, and the casts where two meet
"""
