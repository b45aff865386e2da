"""TensorFlow graphs as protocol buffers: nothing is executed, and no op needs to be registered.

- model: a model as the steps see it; signatures, constants, describing: its parts, and their descriptions
- nodes: names and types of tensors
- assets: the files that a graph reads
- calls: which functions a node calls, and which of its inputs are their arguments
- edit: new nodes, other uses, and walks along edges
- ops: named sets of ops, and types; op_classes: what each op does besides computing
- formats, functions, shapes, passes, trust: the rooms beside
"""
