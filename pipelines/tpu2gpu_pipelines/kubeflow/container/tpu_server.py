"""TensorFlow's server on one host of a TPU slice: `tpu_server.py INDEX ADDRESS...`. It ends with who started it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

_LOOK_EVERY_S = 1.0


def serve(index: int, addresses: Sequence[str]) -> None:
    """Serve this host's chips to the coordinator.

    Args:
        index: Which of the hosts this is.
        addresses: `HOST:PORT` of all hosts' servers.
    """
    import tensorflow as tf

    parent = os.getppid()
    server = tf.distribute.Server({"worker": list(addresses)}, job_name="worker", task_index=index, protocol="grpc")
    assert server.target
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2:])
    os._exit(0)
