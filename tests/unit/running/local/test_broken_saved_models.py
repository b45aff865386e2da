"""SavedModels whose objects contradict themselves end in an error of ours as they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tpu2gpu import load
from tpu2gpu.errors import InputError
from tpu2gpu.tensorbundle import format


@pytest.fixture
def model(tmp_path: Path) -> Path:
    module = tf.Module()
    module.w = tf.Variable(2.0)
    module.f = tf.function(lambda x: {"y": x * module.w}, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.f)
    return tmp_path / "model"


def child(objects: Any, parent: int, name: str) -> Any:
    return next(it for it in objects.nodes[parent].children if it.local_name == name)


def signatures(objects: Any) -> Any:
    return objects.nodes[child(objects, 0, "signatures").node_id]


def point_signature_at_the_variable(objects: Any) -> None:
    child(objects, child(objects, 0, "signatures").node_id, "serving_default").node_id = child(objects, 0, "w").node_id


BROKEN: dict[str, Callable[[Any], object]] = {
    "signatures of another kind": lambda it: setattr(signatures(it).user_object, "identifier", "e"),
    "signatures that are a list": lambda it: setattr(
        signatures(it).user_object, "identifier", "trackable_list_wrapper"
    ),
    "signatures that are a variable": lambda it: setattr(
        child(it, 0, "signatures"), "node_id", child(it, 0, "w").node_id
    ),
    "a signature that is a variable": point_signature_at_the_variable,
    "signatures of another name": lambda it: setattr(child(it, 0, "signatures"), "local_name", "x"),
    "a root of no kind": lambda it: it.nodes[0].ClearField("user_object"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_objects_that_contradict_themselves_are_refused(name: str, model: Path) -> None:
    path = model / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    BROKEN[name](saved.meta_graphs[0].object_graph_def)
    path.write_bytes(saved.SerializeToString())
    with pytest.raises(InputError, match=str(model)):
        load(model)


@pytest.mark.parametrize("dtype", [0, 77, 101])
def test_a_tensor_of_a_type_of_which_tensorflow_dies_is_refused(dtype: int, model: Path) -> None:
    index = format.index_path(model / "variables" / "variables")
    items = dict(format.read_table(index.read_bytes()))
    (key,) = (key for key in items if b"OBJECT_GRAPH" in key)
    entry = attrs.evolve(format.decode_entry(items[key]), dtype=dtype)
    index.write_bytes(format.encode_table([*{**items, key: format.encode_entry(entry)}.items()]))
    with pytest.raises(InputError, match=f"DataType {dtype}"):
        load(model)
