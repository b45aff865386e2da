"""Sweep families of operations, and write their tables: `python -m tests.conformance [FAMILY...]`."""

from __future__ import annotations

import logging
import os
import sys
import time

os.environ |= {"TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def main(names: list[str]) -> int:
    """Sweep, write, and list what answers otherwise; the exit status is 1 where something does."""
    from tests.conformance.judge import DEVIATES
    from tests.conformance.table import FAMILIES, cases_of, swept, table_of, versions, write
    from tests.conformance.uncovered import listed

    logging.getLogger("tf2onnx").propagate = False
    wrong = 0
    for name in names or FAMILIES:
        started = time.perf_counter()
        found = swept(list(cases_of(name)))
        write(name, table_of(found))
        print(f"{name}: {len(found)} combinations in {time.perf_counter() - started:.0f} s", flush=True)
        for case, verdict in found:
            if verdict.kind == DEVIATES:
                wrong += 1
                print(f"  {case}: {verdict.why}", flush=True)
    write("versions", versions())
    write("uncovered", listed())
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
