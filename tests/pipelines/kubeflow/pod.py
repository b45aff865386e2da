"""The container of a trainer's step in a process that a test can kill: `pod.py FOLDER ARGUMENT...`.

FOLDER holds what the launcher keeps under /minio in a pod of its own. The arguments are those that the step was
compiled to, and the entrypoint is the images'. The network is cut short as in `train_digits.py`.
"""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which the launcher gets, and does not pass on
    from tpu2gpu_pipelines.kubeflow.container import entrypoint, executor_input
    from tpu2gpu_pipelines.trainers import digits, training

    folder, *arguments = sys.argv[1:]
    executor_input._MOUNTS = {"minio://": f"{folder}/", "/minio/": f"{folder}/"}
    digits._STAGES, training._POLICY, training.compiles_better = ((64, 2),), "float32", lambda strategy: False
    entrypoint.leave(entrypoint.main(arguments))
