"""Source formats: each tells its own sources from others, inspects them and reads them as serving models.

- base: the contract, `SourceFormat`, and that of weights without a graph, `WeightsFormat`
- registry: the formats, and which one lies at a path
- saved_model: SavedModels
- checkpoint: TensorFlow's checkpoints, of today and of the format before
- keras: Keras' archives and HDF5 files: whole models, or weights alone
- numpy_weights: `.npz` files of weights
- graph_def: frozen graphs
- meta_graph: training graphs alone
- built_graph: graphs that a function of the user's builds, for `--graph`
- contents: what `inspect` reports of weights and training graphs
- custom_objects: classes and functions of the user's own, for Keras' files
- keras_files: weights out of Keras' files
- keras_models: whole models out of Keras' files
"""
