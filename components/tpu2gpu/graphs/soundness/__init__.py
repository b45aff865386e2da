"""Whether a foreign graph is one: checked once when it is read, so that nothing behind that meets a contradiction.

- graph: a GraphDef or MetaGraphDef as a whole
- nodes: nodes against the definitions of their ops
- tensors: values of constants
- functions: calls, recursion, and how large a graph becomes when they are inlined
- order: cycles
"""
