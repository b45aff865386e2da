"""TensorFlow graphs as protocol buffers: nothing is executed, and no op needs to be registered.

`model` - a model as the steps see it; `signatures`, `constants`, `describing` - its parts.
`nodes` - types and names of tensors; `edit` - edits and walks; `ops` - named sets of ops and types.
`calls` - which functions a node calls, and which of its inputs are their arguments.
`formats` - files that hold graphs; `functions` - inlining and bodies; `shapes` - sizes; `passes` - rewrites.
"""
