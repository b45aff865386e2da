"""ONNX forms of TensorFlow's operations that tf2onnx lacks, or converts to something else.

formula: the nodes of a form.
elementwise, arithmetic, choice: numbers.
indexing: one-hots, scatters, segments.
images, convolution: resizing and transposed convolutions.
suppression: boxes.
emulated_quantization: networks that were trained for 8 bits.
"""
