"""Runners of models in this process, one kind of model in each file.

- saved_model_runner, graph_def_runner: TensorFlow
- onnx_runner: ONNX Runtime
- engine_runner: TensorRT
- serving_runner: the parts of a serving folder, each by its runner
- tensorflow_runner: what TensorFlow's runners share
- gpu_breakdown: the parts of a request's latency on a GPU
- external_data: the files beside an ONNX file, checked before a runtime sees them
"""
