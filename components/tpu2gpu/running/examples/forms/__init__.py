"""The forms in which examples lie in files, each in a file of its own.

- base: the contract, `ExampleForm`
- registry: the forms, and which one lies at a path
- tfrecords: TFRecord files of tf.Examples, plain or compressed
- record_stream: the records of such a file, without TensorFlow
- numpy_files: `.npz` and `.npy`
- images: image files, in folders by class or with a table of labels
- csv_tables, parquet_tables: tables with a column for each feature
- tables: the lines of a table of text
- unpacking: how much a packed file may become
"""
