"""TensorFlow's checkpoint files, read and written directly and in bounded memory.

- checkpoint: the face of all checkpoints; arrays: one that is made of arrays
- reader, writer: bundles, the second format
- version1: the first format
- streaming: a bundle, cast into another
- casting, statistics: values cast from type to type, and what that does to them
- format, slices, checksum, files: the index, partitioned tensors, crc32c, ranges of files
"""
