"""Where training runs: on a TPU that answers, else on what TensorFlow finds by itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tpu2gpu.errors import EnvironmentLacksError, foreign_errors
from tpu2gpu.hardware.tpu import has_tpu

_ADDRESS = "TPU_NAME"
_CONNECT_S = 10.0


def choose_strategy() -> Any:
    """Return a `TPUStrategy` where there is a TPU, else TensorFlow's default strategy.

    A TPU is looked for only where something says that there is one: `TPU_NAME` in the environment (`local`,
    `grpc://HOST:PORT` for each host with commas between them, or a Cloud TPU's name), or a TPU among this machine's
    devices. So nothing waits for an answer that never comes.

    Raises:
        EnvironmentLacksError: There should be a TPU, and it does not answer.
    """
    import tensorflow as tf

    address = os.environ.get(_ADDRESS) or ("local" if has_tpu() else "")
    if not address:
        return tf.distribute.get_strategy()
    for each in address.split(","):
        _check_listening(each)
    with foreign_errors(
        EnvironmentLacksError,
        f"TPU '{address}': does not answer",
        hint=f"set {_ADDRESS} to one that does, or hide it to train without",
        catch=(tf.errors.OpError, ValueError, RuntimeError, OSError),
    ):
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=address)
        if address != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        return _over_tpus(resolver)


def _over_tpus(resolver: Any) -> Any:
    import tensorflow as tf

    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver)


def _check_listening(address: str) -> None:
    if not address.startswith("grpc://"):
        return
    try:
        where = urlsplit(address)
        socket.create_connection((where.hostname or "", where.port or 8470), timeout=_CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise EnvironmentLacksError(
            f"TPU '{address}': nothing listens there ({error})",
            hint=f"set {_ADDRESS} to a TPU that answers, or unset it to train without",
        ) from error


def compiles_better(strategy: Any) -> bool:
    """Tell whether the model should be compiled by XLA.

    On TPU there is no other way. On a CPU where oneDNN computes in bfloat16, XLA is slower (75 s against 26 s for 300
    steps of the digits on 2 cores); elsewhere it is TensorFlow's own kernels that are slow (1.6 s a step).
    """
    import tensorflow as tf

    if isinstance(strategy, tf.distribute.TPUStrategy) or tf.config.list_physical_devices("GPU"):
        return True
    one_dnn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0"
    return not one_dnn or "avx512f" not in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
