"""Server files that are broken are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpu2gpu.errors import SourceError, Tpu2GpuError
from tpu2gpu.running.servers.server_file import read_server_file

SOUND = "address: triton+grpc://127.0.0.1:{port}/m\ncommand: serve\n"
BROKEN = {
    "an open quote": ("command: 'serve \"'", "command and stop must be words as a shell splits them"),
    "a stop that is a number": ("stop: 7", "--stop 7: must be str, not int"),
    "a model that is a list": ("model: [a]", r"--model \['a'\]: must be str, not a list"),
    "a key that is a number": ("1: 2", "unknown option"),
    "a key that is a list": ("? [a]\n: 1", "no YAML"),
    "a date that there is not": ("model: 2020-13-45", "no YAML"),
    "a list that holds itself": ("x: &x [*x]", "no YAML .a list or mapping holds itself"),
    "deep nesting": (f"x: {'[' * 500}", "no YAML"),
    "a key twice": ("address: a\naddress: b", "the key 'address' stands there twice"),
    "a model that is not there": ("model: gone", r"s\.yaml: model gone: no such file or folder"),
    "a model with a name too long": (f"model: {'a' * 300}", r"s\.yaml: model a{300} .*File name too long"),
    "a model with a path too long": (f"model: {'a/' * 3000}", r"s\.yaml: model (a/){3000} .*File name too long"),
    "a model in a circle of links": ("model: loop/x", r"s\.yaml: model loop/x"),
    "a model with a NUL": ('model: "a\\0b"', r"s\.yaml: model a\0b"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_server_file_is_named(name: str, tmp_path: Path) -> None:
    text, message = BROKEN[name]
    kept = [line for line in SOUND.splitlines() if line.split(":")[0] != text.split(":")[0]]
    (tmp_path / "s.yaml").write_text("\n".join([*kept, text]))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(Tpu2GpuError, match=message):
        read_server_file(tmp_path / "s.yaml")


def test_a_missing_server_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"s\.yaml: cannot be read"):
        read_server_file(tmp_path / "s.yaml")
