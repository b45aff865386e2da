"""Memory that a library may take while it reads a stranger's file: some take whatever number stands in it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def bounded_memory(more_bytes: int) -> Iterator[None]:
    """Let this process take so much more memory and no more while the block runs: the library fails instead."""
    former, most = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    bounds = [bound for bound in (taken + more_bytes, former, most) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (former, most))
