"""Training functions for TFX's stock Trainer, which is given their module path.

- digits: `run_fn`, for the demo's images
- retinanet: a detector, and its `run_fn`
- training: what all trainings do
- strategies: a TPU where one answers
- checkpoints: trainings that go on where they were broken off
- policies: the dtype that layers compute in
"""
