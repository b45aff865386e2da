"""Folders as outputs.

- paths: files wherever they lie
- confinement: files that a model names, which must be its own
- publishing: output folders that appear whole or not at all, and their manifests
- promotion: the room of promoted models
- command: `tpu2gpu verify`
"""
