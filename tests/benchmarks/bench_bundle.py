"""Reading all tensors of a checkpoint, checksums included, against reading its files with `cat`."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

ROUNDS = 7


def main(*, reduced: bool = False) -> None:
    from tpu2gpu.tensorbundle.reader import Bundle
    from tpu2gpu.tensorbundle.writer import BundleWriter

    size = (200 if reduced else 2000) * 10**6
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "model"
        random = np.random.default_rng(0)
        with BundleWriter(prefix) as writer:
            writer.add_array("embedding", random.random((size // 8 // 1024, 1024), dtype=np.float32))
            for number in range(400):
                writer.add_array(f"block_{number:03d}/kernel", random.random(size // 2 // 4 // 400, dtype=np.float32))

        def read() -> None:
            bundle = Bundle(prefix)
            for key in bundle:
                for _ in bundle.chunks(key):
                    pass

        def cat() -> None:
            files = " ".join(str(path) for path in Path(folder).iterdir())
            subprocess.run(["/bin/sh", "-c", f"cat {files} > /dev/null"], check=True)

        def cat_through() -> None:
            """What `cat` costs where it cannot hand pages on without looking: /dev/null takes them unread."""
            files = " ".join(str(path) for path in Path(folder).iterdir())
            subprocess.run(["/bin/sh", "-c", f"cat {files} | cat > /dev/null"], check=True)

        cat()  # into the page cache
        times: dict[str, list[float]] = {"tpu2gpu": [], "cat": [], "cat | cat": []}
        ways: list[tuple[str, Callable[[], None]]] = [("cat", cat), ("tpu2gpu", read), ("cat | cat", cat_through)]
        for _ in range(3 if reduced else ROUNDS):
            for name, way in ways:
                begun = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - begun)
        for name, each in times.items():
            print(f"{name:10} {median(each):.3f} s, {size / median(each) / 1e9:.1f} GB/s")
        print(f"ratio      {median(times['tpu2gpu']) / median(times['cat']):.2f} x cat")
