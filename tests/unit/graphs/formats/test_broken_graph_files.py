"""Graphs as text that are nested without end are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpu2gpu.errors import SourceError
from tpu2gpu.graphs.formats.meta_graph import parse_graph_file


@pytest.mark.parametrize("name", ["graph.pbtxt", "graph.pb", "model.meta"])
def test_a_text_nested_without_end_is_no_graph(name: str, tmp_path: Path) -> None:
    depth = 1000
    inner = 'func { attr { key: "k" value { ' * depth + "} } } " * depth
    (tmp_path / name).write_text(f'node {{ name: "a" op: "NoOp" attr {{ key: "k" value {{ {inner} }} }} }}')
    with pytest.raises(SourceError, match="neither a MetaGraphDef"):
        parse_graph_file(tmp_path / name)
