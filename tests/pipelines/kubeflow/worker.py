"""The container of a worker in a process that a test can kill: `worker.py EXCHANGE`.

All is as in the images but for what no machine without TPUs has: over the hosts' processors stands a MirroredStrategy,
which TensorFlow offers for one machine alone in eager mode, and which works over several once that check is silent.
Like TPUStrategy it is driven from one process, keeps its variables on the hosts, and computes on all of them at once.
The network is cut short as in `train_digits.py`.
"""

from __future__ import annotations

import signal
import sys
from typing import Any


def over_processors(resolver: Any) -> Any:
    import tensorflow as tf
    from tensorflow.python.distribute import mirrored_strategy

    mirrored_strategy._is_device_list_single_worker = lambda devices: True
    hosts = len(resolver.cluster_spec().as_dict()["worker"])
    devices = [f"/job:worker/task:{host}/device:CPU:0" for host in range(hosts)]
    return tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())


if __name__ == "__main__":
    from tpu2gpu_pipelines.kubeflow.container import entrypoint, tpu_worker
    from tpu2gpu_pipelines.trainers import digits, strategies, training

    strategies._over_tpus = over_processors
    digits._STAGES, training._POLICY, training.compiles_better = ((64, 2),), "float32", lambda strategy: False
    signal.signal(signal.SIGTERM, tpu_worker._leave_at_once)
    entrypoint.leave(tpu_worker.main(sys.argv[1:]))
