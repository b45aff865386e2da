"""SavedModel -> ONNX -> TensorRT engine -> a folder that a server loads.

converting: `convert_model`, `dry_run`.
options: its options and result.
request: the options, parsed.
backend_registry: the back ends, by name.
profiles: the shapes that an engine takes.
parity: comparison with the source's outputs.
backends, onnx, partition, layouts: the rooms of its steps.
component, command: the TFX component, and the command.
"""
