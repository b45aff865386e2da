"""An error is a line, and one more for each finding, whatever names foreign files have."""

from __future__ import annotations

from tpu2gpu.errors import SourceError


def test_a_name_with_an_end_of_line_makes_no_line_of_its_own() -> None:
    error = SourceError("a\nwrote b: is no model", details=["c\nblessed", "d"], hint="give e\nf")
    assert str(error).splitlines() == ["a\\nwrote b: is no model; give e\\nf", "  - c\\nblessed", "  - d"]
