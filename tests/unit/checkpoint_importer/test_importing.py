"""Importing: bfloat16 gone, names clean, and everything that is not for serving refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models import networks
from tests.models.predictions import images, predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.inspecting import inspect_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import GraphError, OutputExistsError, SignatureError, SourceError, UnsupportedError, UsageError
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.storage.publishing import verify_model

Built = Callable[..., Path]


def test_a_float32_model_answers_bit_for_bit(built: Built, tmp_path: Path) -> None:
    source = built(networks.convnet)
    result = import_model(source, tmp_path / "model")
    assert np.array_equal(
        predict(tmp_path / "model", plainly=True, image=images())["output_0"],
        predict(source, plainly=True, image=images())["output_0"],
    )
    assert (result.variables, result.signatures[0]) == (13, "serving_default")
    assert verify_model(tmp_path / "model")["step"] == "import"


def test_a_bfloat16_model_computes_in_float32_and_stays_within_bfloat16_rounding(built: Built, tmp_path: Path) -> None:
    source = built(networks.convnet, policy="mixed_bfloat16")
    result = import_model(source, tmp_path / "model")
    inspection = inspect_model(tmp_path / "model")
    assert "bfloat16" not in inspection.report["tensors_by_type"]
    assert "Cast" not in result.report["ops"]
    assert result.report["widened_nodes"] > 10
    wanted, found = predict(source, image=images())["output_0"], predict(tmp_path / "model", image=images())["output_0"]
    assert 0 < np.abs(found - wanted).max() < 0.03 * np.abs(wanted).max()


def test_bfloat16_is_kept_bit_for_bit_on_request(built: Built, tmp_path: Path) -> None:
    source = built(networks.convnet, policy="mixed_bfloat16")
    import_model(source, tmp_path / "model", ImportOptions(keep_bfloat16=True))
    assert np.array_equal(
        predict(tmp_path / "model", plainly=True, image=images())["output_0"],
        predict(source, plainly=True, image=images())["output_0"],
    )


def test_one_signature_of_several_is_kept(built: Built, tmp_path: Path) -> None:
    import_model(built(networks.convnet), tmp_path / "model", ImportOptions(signature=("serving_default",)))
    assert list(read_saved_model(tmp_path / "model").signatures) == ["serving_default"]


def test_variables_are_renamed_by_rules_in_order(built: Built, tmp_path: Path) -> None:
    rules = ("^conv2d=stem", "kernel$=weights")
    import_model(built(networks.convnet), tmp_path / "model", ImportOptions(rename=rules))
    names = set(read_saved_model(tmp_path / "model").variables)
    assert {"stem/weights", "stem_1/weights", "dense/weights"} <= names
    assert np.array_equal(
        predict(tmp_path / "model", image=images())["output_0"],
        predict(built(networks.convnet), image=images())["output_0"],
    )


@pytest.mark.parametrize(
    ("rules", "name"), [(("^dense/=a/", "^a/=b/"), "b/kernel"), (("^a/=b/", "^dense/=a/"), "a/kernel")]
)
def test_the_order_of_rules_matters(rules: tuple[str, ...], name: str, built: Built, tmp_path: Path) -> None:
    import_model(built(networks.convnet), tmp_path / "model", ImportOptions(rename=rules))
    assert name in read_saved_model(tmp_path / "model").variables


def test_names_of_the_bfloat16_scope_are_cleaned(built: Built, tmp_path: Path) -> None:
    rename = ImportOptions(rename=("^dense=bfloat16//dense",))
    import_model(built(networks.convnet), tmp_path / "dirty", rename)
    assert "bfloat16//dense/kernel" in read_saved_model(tmp_path / "dirty").variables
    result = import_model(tmp_path / "dirty", tmp_path / "clean")
    assert result.report["renamed_variables"]["bfloat16//dense/kernel"] == "dense/kernel"
    assert not [name for name in read_saved_model(tmp_path / "clean").variables if "bfloat16" in name or "//" in name]


def test_rules_that_join_two_names_are_refused(built: Built, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"names must stay apart(.|\n)*'kernel': from"):
        import_model(built(networks.convnet), tmp_path / "model", ImportOptions(rename=(".*kernel=kernel",)))
    assert not (tmp_path / "model").exists()


def test_malformed_rules_are_all_named(built: Built, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        import_model(built(networks.convnet), tmp_path / "model", ImportOptions(rename=("no rule", "(=x")))
    assert len(caught.value.details) == 2


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            "training",
            r"cannot serve(.|\n)*FusedBatchNorm\w*\): batch norm in training mode, and no variable is updated",
        ),
        ("counter", r"writes to variables(.|\n)*AssignAddVariableOp"),
    ],
)
def test_what_does_not_serve_is_refused_by_node(form: str, message: str, built: Built, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=message):
        import_model(built(networks.one_weight, ((1.0, 2.0), (3.0, 4.0)), form=form), tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["dropout", "tpu"])
def test_what_only_training_has_is_taken_out(form: str, built: Built, tmp_path: Path) -> None:
    weight = ((1.0, 2.0), (3.0, 4.0))
    x = np.array([[1, 2], [3, 4]], np.float32)
    result = import_model(built(networks.one_weight, weight, form=form), tmp_path / "model")
    assert np.array_equal(predict(tmp_path / "model", x=x)["y"], x @ np.array(weight, np.float32))
    assert list(result.report["to_inference"]) == [{"dropout": "dropouts", "tpu": "tpu_wrappers"}[form]]


def test_sources_of_other_kinds_are_refused_with_the_way_out(built: Built, tmp_path: Path) -> None:
    checkpoint = built(networks.convnet) / "variables" / "variables"
    with pytest.raises(UnsupportedError, match=r"a bare checkpoint has no graph.*give --graph"):
        import_model(checkpoint, tmp_path / "model")
    with pytest.raises(SourceError, match=r"nothing is there.*there is no folder .*nowhere either"):
        import_model(tmp_path / "nowhere" / "model", tmp_path / "model")
    with pytest.raises(SourceError, match=r"variable: nothing is there.*did you mean 'variables'"):
        import_model(checkpoint.with_name("variable"), tmp_path / "model")
    with pytest.raises(SourceError, match="neither a SavedModel nor a checkpoint, it holds nothing"):
        import_model(tmp_path, tmp_path / "model")


def test_an_unknown_signature_leaves_nothing(built: Built, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="did you mean 'serving_default'"):
        import_model(built(networks.convnet), tmp_path / "model", ImportOptions(signature=("serving_defalt",)))
    assert not list(tmp_path.iterdir())


def test_an_existing_target_is_replaced_only_by_force(built: Built, tmp_path: Path) -> None:
    import_model(built(networks.convnet), tmp_path / "model")
    before = verify_model(tmp_path / "model")["digest"]
    with pytest.raises(OutputExistsError, match="--force"):
        import_model(built(networks.convnet, policy="mixed_bfloat16"), tmp_path / "model")
    assert verify_model(tmp_path / "model")["digest"] == before
    import_model(built(networks.convnet, policy="mixed_bfloat16"), tmp_path / "model", force=True)
    assert verify_model(tmp_path / "model")["digest"] != before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_inspect_tells_kind_contents_and_what_import_would_do(built: Built) -> None:
    inspection = inspect_model(built(networks.convnet, policy="mixed_bfloat16"))
    assert (inspection.kind, inspection.importable) == ("SavedModel", True)
    assert "13 variables" in inspection.verdict
    assert "bfloat16 nodes float32" in inspection.verdict
    image = inspection.report["signatures"]["serving_default"]["inputs"]["image"]
    assert (image["dtype"], image["shape"]) == ("float32", [None, 8, 8, 1])
    checkpoint = inspect_model(built(networks.convnet) / "variables" / "variables")
    assert (checkpoint.kind, checkpoint.importable) == ("checkpoint", False)
    assert checkpoint.report["object_based"]
    refused = inspect_model(built(networks.one_weight, ((1.0,),), form="counter"))
    assert not refused.importable
    assert "writes to variables" in refused.verdict
