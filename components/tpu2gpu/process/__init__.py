"""Child processes for native code.

- worker: the parent's side: `Worker` holds an object in a child, `run_in_child` calls one function there
- child: the child's side: one JSON document a line, until the parent is gone
- fork_client: the parent's side of fork servers: one per environment, and why there is none
- fork_server: the process that imports slow libraries once and is forked for every child
- judging: the variables and libraries of children whose results are compared
- aslr: processes without address space layout randomization
"""
