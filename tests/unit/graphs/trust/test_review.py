"""What a model would do besides computing is found wherever it hides, and what only looks so is let alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.hostile import HONEST, HOSTILE
from tests.models.hostile_disguises import DISGUISED
from tests.models.hostile_graphs import HOSTILE_GRAPHS, an_honest_data_set
from tests.models.hostile_loading import HOSTILE_WHEN_LOADED, a_table_of_its_asset, a_variable_of_its_asset
from tests.models.hostile_ops import HOSTILE_OPS
from tpu2gpu.errors import GraphError, SourceError, TrustRefusedError
from tpu2gpu.graphs.assets import hold_paths
from tpu2gpu.graphs.formats.saved_model import choose_meta_graph, parse_saved_model, read_saved_model
from tpu2gpu.graphs.op_classes import class_of
from tpu2gpu.graphs.trust.policy import require_trust
from tpu2gpu.graphs.trust.review import Finding, review_meta_graph, review_model
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner


def findings(folder: Path) -> list[Finding]:
    return review_meta_graph(choose_meta_graph(parse_saved_model(folder), folder))


ALL_HOSTILE = {**HOSTILE, **HOSTILE_GRAPHS, **HOSTILE_WHEN_LOADED}
ALL_HONEST = (*HONEST, an_honest_data_set, a_table_of_its_asset, a_variable_of_its_asset)


@pytest.mark.parametrize("build", ALL_HOSTILE, ids=lambda build: build.__name__)
def test_nothing_of_a_hostile_model_is_run(build: Callable[..., Path], tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    folder = build(tmp_path / "model", str(touched))
    folder_only = set(tmp_path.iterdir()) - {touched}
    touched.unlink(missing_ok=True)  # building one calls it
    with pytest.raises(TrustRefusedError, match="would do more than compute") as refused:
        SavedModelRunner(folder)
    assert f"--trust {ALL_HOSTILE[build]}" in refused.value.hint
    assert set(tmp_path.iterdir()) == folder_only
    require_trust(findings(folder), [ALL_HOSTILE[build]], folder)


def refuses(build: Callable[..., Path], says: str, home: Path) -> None:
    """Check that a model is refused for what it says, before anything of it ran."""
    secret, touched = home / "secret", home / "touched"
    secret.write_text("secret")
    path = secret if "read" in build.__name__ or "restore" in build.__name__ else touched
    folder = build(home / "model", str(path))
    touched.unlink(missing_ok=True)
    before = set(home.rglob("*"))
    with pytest.raises((TrustRefusedError, GraphError)) as refused:
        SavedModelRunner(folder)
    assert re.search(says, "\n".join(refused.value.details))
    assert set(home.rglob("*")) == before


@pytest.mark.parametrize("build", DISGUISED, ids=lambda build: build.__name__)
def test_a_disguise_hides_nothing(build: Callable[..., Path], tmp_path: Path) -> None:
    refuses(build, DISGUISED[build], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("build", HOSTILE_OPS, ids=lambda build: build.__name__)
def test_no_op_hides(build: Callable[..., Path], tmp_path: Path) -> None:
    refuses(build, HOSTILE_OPS[build], tmp_path)


@pytest.mark.parametrize("build", ALL_HONEST, ids=lambda build: build.__name__)
def test_an_honest_model_is_run_and_taken(build: Callable[..., Path], tmp_path: Path) -> None:
    folder = build(tmp_path / "model")
    assert findings(folder) == []
    SavedModelRunner(folder).close()
    assert review_model(hold_paths(read_saved_model(folder))) == []


def test_a_finding_names_node_function_and_file(tmp_path: Path) -> None:
    from tests.models.hostile import reads_a_file

    (finding,) = findings(reads_a_file(tmp_path / "model", "/etc/hostname"))
    assert str(finding).startswith("ReadFile 'ReadFile' in function '__inference_")
    assert str(finding).endswith("reads files ('/etc/hostname')")


@pytest.mark.parametrize("open_it", [read_saved_model, SavedModelRunner])
def test_an_asset_outside_its_folder_is_no_asset(open_it: Callable[..., object], tmp_path: Path) -> None:
    from tests.models.hostile import reads_its_asset

    for number, name in enumerate(("/etc/hostname", "../../outside.txt", "link.txt")):
        folder = reads_its_asset(tmp_path / str(number) / "model")
        (folder.parent / "outside.txt").touch()
        (folder / "assets" / "link.txt").symlink_to("/etc/hostname")
        saved_model = parse_saved_model(folder)
        saved_model.meta_graphs[0].asset_file_def[0].filename = name
        (folder / "saved_model.pb").write_bytes(saved_model.SerializeToString())
        with pytest.raises(SourceError, match=r"not a path inside|a link"):
            open_it(folder)
    folder = reads_its_asset(tmp_path / "linked" / "model")
    (folder / "assets").rename(folder.parent / "elsewhere")
    (folder / "assets").symlink_to("../elsewhere")
    with pytest.raises(SourceError, match="its folder assets is a link"):
        open_it(folder)


def test_every_op_of_this_tensorflow_is_reviewed() -> None:
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    buffer = pywrap_tf_session.TF_GetAllOpList()
    ops = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(buffer)).op
    pywrap_tf_session.TF_DeleteBuffer(buffer)
    unknown = {op.name for op in ops if class_of(op.name) == "unknown" and not op.name.startswith("_")}
    assert unknown - _LEFT_UNKNOWN == set()


# TensorFlow's own tests register most of these; the others end the process, or do what only they know.
_LEFT_UNKNOWN = set(
    """A Abort Attr AttrBool AttrBoolList AttrDefault AttrEmptyListDefault AttrEnum AttrEnumList AttrFloat
    AttrListDefault AttrListMin AttrListTypeDefault AttrMin AttrPartialShape AttrPartialShapeList AttrShape
    AttrShapeList AttrTypeDefault B Binary ComplexStruct ConstructionFails CopyOp CustomAggregator DefaultAttrs
    DevicePlacementOp DtypeWithDefaultOp FakeQueue FiveFloatOutputs FloatInput FloatOutput FloatOutputStringOutput
    Foo1 Foo2 Foo3 FuncAttr FuncListAttr GetOptions GraphDefVersion InPolymorphicTwice Int64Output IntAttr IntInput
    IntInputFloatInput IntInputIntOutput IntOutput IntOutputFloatOutput KernelLabel KernelLabelRequired ListInput
    ListOutput MixedStruct MlirPassthroughOp NInPolymorphicTwice NInTwice NInTwoTypeVariables NIntsIn NIntsOut
    NIntsOutDefault NPolymorphicIn NPolymorphicOut NPolymorphicOutDefault NPolymorphicRestrictIn
    NPolymorphicRestrictOut None Old OpWithDefaultAttr OpWithFutureDefaultAttr OutT OutTypeList OutTypeListRestrict
    Polymorphic PolymorphicDefaultOut PolymorphicOut RefIn RefInputFloatInput RefInputFloatInputIntOutput
    RefInputIntInput RefOut RefOutput RefOutputFloatOutput RequiresOlderGraphVersion ReservedAttr ReservedInput
    ResourceCreateOp ResourceInitializedOp ResourceUsingOp Restrict Simple SimpleStruct SleepIdentityOp SleepOp
    StringListAttr StubResourceHandleOp TestAttr TestStringOutput TwoFloatInputs TwoFloatInputsFloatOutput
    TwoFloatInputsIntOutput TwoFloatOutputs TwoIntInputs TwoIntOutputs TwoRefsIn TypeList TypeListRestrict
    TypeListTwice Unary WindowOp""".split()
)
