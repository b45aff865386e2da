"""Folders as outputs.

- paths: files wherever they lie
- publishing: output folders that appear whole or not at all, and their manifests
- promotion: the room of promoted models
- command: `tpu2gpu verify`
"""
