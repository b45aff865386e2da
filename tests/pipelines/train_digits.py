"""Trains the digits as TFX's Trainer does, in a process that a test can kill: `train_digits.py ARGUMENTS_IN_JSON`.

The network is cut short, and computes in float32 without XLA: one residual block has everything that five have, and
most of the time would go into compiling.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

if __name__ == "__main__":
    from tpu2gpu_pipelines.trainers import digits, training

    digits._STAGES, training._POLICY, training.compiles_better = ((64, 2),), "float32", lambda strategy: False
    digits.run_fn(SimpleNamespace(**json.loads(sys.argv[1])))
