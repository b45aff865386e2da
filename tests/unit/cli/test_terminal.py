"""What a command prints keeps its lines apart, whatever names foreign files have."""

from __future__ import annotations

import pytest

from tpu2gpu.cli.terminal import Terminal


def test_a_result_has_the_lines_that_it_was_given(capfd: pytest.CaptureFixture[str]) -> None:
    with Terminal() as terminal:
        terminal.result({}, ["the model a\nwrote b", "", "done"])
    assert capfd.readouterr().out.splitlines() == ["the model a\\nwrote b", "", "done"]
