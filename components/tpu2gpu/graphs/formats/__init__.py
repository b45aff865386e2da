"""Files that hold graphs, read and written without running them.

`detection` - what a path holds.
`saved_model`, `graph_def`, `meta_graph` - the formats, each read into a ServingModel.
`frozen_model` - frozen models, read without holding their weights; `lazy_constants` does it.
`variable_restore` - the values of variables; `restore_ops` and `checkpoint_tensors` tell which tensors they are.
`saver` - save and restore ops, added to a graph.
`streaming` - protos whose constants are streamed; `graph_size` - whether they stay under the limit.
"""
