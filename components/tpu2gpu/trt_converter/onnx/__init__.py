"""SavedModel to ONNX: freezing, conversion, validation, quantisation."""
