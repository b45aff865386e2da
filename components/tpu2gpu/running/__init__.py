"""Running a model of any kind on examples, and comparing two of them.

- opening: `open_runner`, for a model of any kind, and the registry of kinds
- runner: what every runner is, its tensors' specifications, and the check of feeds
- loading: `tpu2gpu.load`
- serving_plan: the plan of a serving folder
- arrays: named arrays of every dtype in one file
- local, servers, examples, comparison: the rooms beside
"""
