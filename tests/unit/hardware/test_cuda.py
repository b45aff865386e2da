"""What the driver's command tells."""

from __future__ import annotations

from tpu2gpu.hardware.cuda import gpu_memory_bytes


def test_the_gpu_memory_of_a_server_is_that_of_all_its_processes(nvidia_smi):
    nvidia_smi('#!/bin/sh\nprintf "7, 100 MiB\\n12, 20 MiB\\n12, 30 MiB\\n9, [N/A]\\n"\n')
    assert gpu_memory_bytes([7, 12]) == 150 << 20
    assert gpu_memory_bytes([1, 9]) is gpu_memory_bytes([]) is None
