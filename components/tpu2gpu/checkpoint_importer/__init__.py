"""Makes a clean inference SavedModel of what a TPU training run left behind.

- importing: `import_model`
- inspecting: `inspect_model`: what a path holds, and what an import would do
- options: the options and the result of an import
- reading: a source in any format as a serving model, with its own graph or another
- formats: the source formats
- component, command: the TFX component, and the command
"""
