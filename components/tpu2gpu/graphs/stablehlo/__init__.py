"""StableHLO on the way to TensorFlow's ops: what `XlaCallModule` holds, read and lowered without running it.

- artifact: what the op and the head of its module say
- deserializing: the module as text, by TensorFlow in a child process
- text, elements, program: the text as objects
- sizes, values: sizes that only a request tells, and values that are known or need no node yet
- graph_builder: the nodes that are made
- lowering: an operation's nodes, a family of operations a file
"""
