"""SavedModel -> ONNX -> TensorRT engine -> a folder that a server loads."""
