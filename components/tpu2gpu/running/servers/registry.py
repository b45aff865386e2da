"""The protocols of servers that are known."""

from __future__ import annotations

from tpu2gpu.running.servers.base import ServerProtocol
from tpu2gpu.running.servers.tfserving import TfServing
from tpu2gpu.running.servers.triton import Triton

PROTOCOLS: tuple[type[ServerProtocol], ...] = (TfServing, Triton)
