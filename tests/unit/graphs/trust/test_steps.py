"""Every step refuses a model that would do more than compute, before it runs or ships any of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.example_files import write_examples
from tests.models.freezing_models import bare_graph
from tests.models.hostile import (
    calls_python,
    prints_to_a_file,
    reads_files_beside_its_outputs,
    writes_a_file,
    writes_when_loaded,
)
from tpu2gpu import FreezeOptions, ImportOptions, convert_model, evaluate_model, freeze_model, import_model
from tpu2gpu.errors import TrustRefusedError
from tpu2gpu.storage.publishing import read_manifest


@pytest.mark.parametrize("step", [convert_model, import_model, freeze_model])
def test_what_loading_would_do_is_refused(step: Callable[..., Any], tmp_path: Path) -> None:
    folder = writes_when_loaded(tmp_path / "model", str(tmp_path / "touched"))
    with pytest.raises(TrustRefusedError) as refused:
        step(folder, tmp_path / "out")
    assert "WriteFile 'WriteFile': writes files" in refused.value.details
    assert not (tmp_path / "touched").exists()
    assert not (tmp_path / "out").exists()


def test_who_trusts_a_model_gets_it_and_the_manifest_says_so(tmp_path: Path) -> None:
    folder = calls_python(tmp_path / "model", "")
    with pytest.raises(TrustRefusedError, match="--trust python"):
        import_model(folder, tmp_path / "out")
    import_model(folder, tmp_path / "out", ImportOptions(trust=("python",)))
    assert read_manifest(tmp_path / "out")["options"]["trust"] == ["python"]


def test_what_prints_to_a_file_is_dropped_where_nothing_depends_on_it(tmp_path: Path) -> None:
    folder = prints_to_a_file(tmp_path / "model", str(tmp_path / "touched"))
    result = import_model(folder, tmp_path / "out")
    assert [effect["op"] for effect in result.report["dropped_side_effects"]] == ["PrintV2"]


def test_what_touches_files_beside_the_outputs_is_dropped_and_named(tmp_path: Path) -> None:
    folder = reads_files_beside_its_outputs(tmp_path / "model", str(tmp_path / "touched"))
    result = import_model(folder, tmp_path / "out")
    assert {effect["op"] for effect in result.report["dropped_side_effects"]} == {"DebugIdentityV2", "ReadFile"}
    assert not (tmp_path / "touched").exists()


def test_a_file_that_a_graph_names_must_lie_beside_it(tmp_path: Path) -> None:
    trained = bare_graph(tmp_path / "trained")
    graph = tmp_path / "elsewhere" / "model.ckpt.meta"
    graph.parent.mkdir()
    shutil.copy(trained / "model.ckpt.meta", graph)
    options = FreezeOptions(checkpoint=str(trained / "model.ckpt"), output=("lookup",))
    with pytest.raises(TrustRefusedError, match=r"words.txt: the graph reads this file, which is not in its folder"):
        freeze_model(graph, tmp_path / "out", options)
    freeze_model(trained / "model.ckpt.meta", tmp_path / "out", options)
    assert (tmp_path / "out" / "assets" / "words.txt").read_text() == "cat\ndog\nemu\n"


def test_an_evaluation_runs_nothing_of_it(tmp_path: Path) -> None:
    folder = writes_a_file(tmp_path / "model", str(tmp_path / "touched"))
    (tmp_path / "touched").unlink(missing_ok=True)
    examples = write_examples(tmp_path / "examples.tfrecord", {"x": np.ones((4, 1), np.float32)})
    with pytest.raises(TrustRefusedError, match=r"the reference failed while loading.*would do more than compute"):
        evaluate_model(folder, [folder], [str(examples)], tmp_path / "report")
    assert not (tmp_path / "touched").exists()
