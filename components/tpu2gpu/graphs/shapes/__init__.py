"""Shapes of a graph's tensors, as far as they can be told without running it.

- symbolic: sizes and shapes in which the batch stands out
- propagation: the batch through a whole graph
- rules: the batch through ops that TensorFlow cannot be asked of
- shape_functions: TensorFlow's shape functions, asked for one op at two batches
- inference: TensorFlow's inference for a whole graph
"""
