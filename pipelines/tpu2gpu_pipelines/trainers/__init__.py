"""Training functions for TFX's stock Trainer, which is given their module path.

- digits: `run_fn`, for the demo's images
- strategies: a TPU where one answers
- checkpoints: trainings that go on where they were broken off
"""
