"""Back ends of `convert`: what makes a SavedModel into files that a GPU, or a CPU, serves.

A new one is a file here, and a line in `backend_registry` beside.

base: the contract of a back end.
choice: the choice of one, and the refusal of options that mean nothing for it.
onnx, onnx_plan: ONNX Runtime.
engine, engine_build: what both families of TensorRT share.
tensorrt_rtx, tensorrt: the families.
tf_trt: TensorFlow with TensorRT inside.
"""
