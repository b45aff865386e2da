"""Fork servers of a test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tpu2gpu.process import fork_client


@pytest.fixture
def fork_servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave alone the fork servers that other tests use, and end those of this one."""
    monkeypatch.setattr(fork_client, "_servers", fork_client._Servers())
    yield
    fork_client.close_servers()
