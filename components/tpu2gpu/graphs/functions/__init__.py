"""Functions, as nodes call them and as control flow has them for bodies.

`inlining` - a signature's calls, inlined; `training_inlining` - a training graph's calls and training loops.
`bodies` - a function's body as a flat graph; `scopes` - graph and body as places with names of their own.
"""
