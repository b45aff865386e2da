"""Files that hold graphs, read and written without running them.

- detection: what a path holds
- archives: what a zip archive or an HDF5 file holds
- stored_values, numpy_headers: that the values of such files, and of NumPy's, stand in them
- importing_first: the error for what only an import takes
- saved_model, graph_def, meta_graph: the formats, each read into a ServingModel
- frozen_model, lazy_constants: frozen models, without holding their weights
- variable_restore: the values of a graph's variables
- restore_ops, checkpoint_tensors: what a saver restores, and what the tensors of a checkpoint are
- saver: save and restore ops, added to a graph
- streaming, graph_size: protos whose constants are streamed, and their limit
"""
