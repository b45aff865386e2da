"""Folders as outputs.

- paths: files wherever they lie
- confinement: files that a model names, which must be its own
- full_disks: disks without room for them
- publishing: output folders that appear whole or not at all, and their manifests
- exchanging: two paths that take each other's place
- unfinished: folders in the making, and what killed processes leave of them
- promotion: the room of promoted models
- command: `tpu2gpu verify`, `tpu2gpu clean`
"""
