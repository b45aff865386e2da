"""Modules of a user that fail as they are imported, whatever they raise, are told by their name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpu2gpu.checkpoint_importer.formats.custom_objects import load_custom_objects
from tpu2gpu.errors import UsageError
from tpu2gpu.user_code import load_named

FAILING = {
    "leaves": ("raise SystemExit(3)", "SystemExit: 3"),
    "fails": ("raise KeyError('key')", "KeyError: 'key'"),
    "fails_without_words": ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})", "Odd: Odd"),
    "ends_too_soon": ("class Layer(", "SyntaxError"),
    "never_ends": ("def again(): again()\nagain()", "RecursionError"),
}


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize("inner", ["", "/inner"])
def test_a_module_that_fails_is_told(name: str, inner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, message = FAILING[name]
    folder = tmp_path / f"broken_{name}"
    folder.mkdir()
    (folder / "__init__.py").write_text(source)
    (folder / "inner.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    module = f"broken_{name}{inner.replace('/', '.')}"
    with pytest.raises(UsageError, match=f"--custom-objects {module}: {message}"):
        load_custom_objects([module])
    with pytest.raises(UsageError, match="--graph"):
        load_named("--graph", f"{module}:build", "MODULE:FUNCTION")


@pytest.mark.parametrize("name", ["", ".", ".layers", "a..b", "a\0b", "\ud800", "sys.path.x", "x" * 5000])
def test_a_name_of_no_module_is_told(name: str) -> None:
    with pytest.raises(UsageError, match=r"no such module|--custom-objects"):
        load_custom_objects([name])


def test_a_module_that_puts_something_else_in_its_place_has_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "replaced_module.py").write_text("import sys\nsys.modules[__name__] = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_custom_objects(["replaced_module"]) == {}
