"""The digest of a step's sources: it changes with what the step loads, and with nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.networks import convnet
from tpu2gpu.sources.digest import loaded_sources, source_digest

FILES = {
    "__init__.py": "",
    "step.py": "import json\nfrom mine import near\ndef work():\n    import mine.lazy\n    return 'copied.py'\n",
    "near.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mine.types_alone\n",
    "lazy.py": "from .room import deep\nchild = 'mine.child:run'\n",
    "child.py": "x = 'mine.nowhere:run'",
    "copied.py": "",
    "types_alone.py": "",
    "apart.py": "from mine import step\n",
    "room/__init__.py": "",
    "room/deep.py": "",
    "room/pages/page.html": "<p>",
}
LOADED = {"step.py", "near.py", "lazy.py", "child.py", "copied.py", "__init__.py", "room/__init__.py", "room/deep.py"}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a user's own."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in FILES.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "mine"


def test_a_step_loads_what_it_imports_names_and_reads(package: Path) -> None:
    found = {path.relative_to(package).as_posix() for path in loaded_sources("mine.step").values()}
    assert found == LOADED | {"room/pages/page.html"}
    assert "mine.step" not in sys.modules


@pytest.mark.parametrize("name", FILES)
def test_the_digest_changes_with_what_is_loaded_alone(package: Path, name: str) -> None:
    before = source_digest("mine.step")
    (package / name).write_text(FILES[name] + "\n# changed")
    assert (source_digest("mine.step") != before) == (name in LOADED or name.endswith(".html"))


def test_a_step_loads_no_source_that_is_not_counted(built: Callable[..., Path], tmp_path: Path) -> None:
    code = (
        "import sys; from tpu2gpu.freezer.freezing import freeze_model; "
        f"freeze_model({str(built(convnet))!r}, {str(tmp_path / 'frozen')!r}); "
        "print(*(name for name in sys.modules if name.partition('.')[0] == 'tpu2gpu'))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    counted = loaded_sources("tpu2gpu.freezer.freezing")
    assert set(done.stdout.split()) <= counted.keys()
    assert "tpu2gpu.latency_evaluator.evaluating" not in counted


def test_a_step_counts_what_its_child_processes_load_and_the_page_it_fills() -> None:
    assert "tpu2gpu.trt_converter.partition.convert_parts" in loaded_sources("tpu2gpu.trt_converter.component")
    assert "tpu2gpu.reporting/templates/report.html.j2" in loaded_sources("tpu2gpu.latency_evaluator.component")
