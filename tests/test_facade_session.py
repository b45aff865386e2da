"""What `import tpu2gpu` shows in its own documentation is what a reader who tries it sees."""

from __future__ import annotations

import doctest
import runpy
import sys
from pathlib import Path

import pytest

import tpu2gpu

ROOT = Path(__file__).parents[1]


def test_the_session_in_the_documentation_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "small_model.py"), run_name="__main__")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.keras", "eval.npz"]
    before = set(vars(tpu2gpu)) - {"__builtins__"}
    result = doctest.testmod(tpu2gpu, verbose=False)
    assert result.attempted >= 14
    assert result.failed == 0
    assert before <= set(vars(tpu2gpu))


def test_every_function_that_it_offers_says_what_it_takes_and_raises() -> None:
    import inspect

    functions = [getattr(tpu2gpu, name) for name in dir(tpu2gpu) if name[0].islower()]
    assert len(functions) >= 13
    for function in functions:
        signature, text = inspect.signature(function), inspect.getdoc(function) or ""
        assert "Raises:" in text, function
        assert signature.return_annotation is not inspect.Signature.empty, function
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty, (function, parameter)
            assert len(signature.parameters) == 1 or f"    {parameter.name}: " in text, (function, parameter)


def test_a_name_that_is_nearly_right_is_hinted() -> None:
    with pytest.raises(AttributeError, match="did you mean 'import_model'"):
        _ = tpu2gpu.imprt_model  # type: ignore[attr-defined]
    assert "annotations" not in dir(sys.modules["tpu2gpu"])
