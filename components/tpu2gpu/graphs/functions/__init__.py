"""Functions, inlined or taken apart.

- inlining: the calls of a signature, inlined
- training_inlining: the calls and training loops of a training graph, inlined
- bodies: a function's body as a flat graph
- scopes: graph and body as places with names of their own
"""
