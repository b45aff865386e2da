"""Model code, run in a process of its own: its variables, and a checkpoint that it restores whole."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tpu2gpu.errors import SourceError
from tpu2gpu.graphs.edit import free_name
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.user_code import load_named

WEIGHTS_SUFFIX, MODEL_SUFFIX = ".weights.h5", ".keras"
_LONGEST = 300
_SHARED = "shared_object_id"


class ModelCode:
    """A model that a user's function makes: a Keras model, any trackable object of TensorFlow 2, or a TF1 graph.

    Args:
        function: `module:function`; called without arguments.
        folder: The folder from which modules are imported besides.
    """

    def __init__(self, function: str, folder: str) -> None:
        self._function = function
        sys.path.insert(0, folder)
        self._made, self._graph = self._make()
        self._variables = _variables(self._made, self._graph)
        if not self._variables:
            raise SourceError(
                f"--onto {function}: makes no variables",
                hint="return a Keras model or a tf.Module, or make TF1 variables in the default graph",
            )

    def variables(self) -> list[dict[str, Any]]:
        """Describe each variable, in the order in which they were made: name, shape, type and trainability."""
        return [
            {
                "name": name,
                "shape": [int(size) for size in variable.shape],
                "dtype": variable.dtype.base_dtype.name if hasattr(variable.dtype, "base_dtype") else variable.dtype,
                "trainable": bool(variable.trainable),
            }
            for name, variable in self._variables.items()
        ]

    def restore(self, values: str, prefix: str) -> dict[str, Any]:
        """Give variables their values, writes a checkpoint, and restore it into a second model made by the code.

        Args:
            values: A bundle with the values, by the variables' names; those that it lacks keep what the code gave.
            prefix: The checkpoint to write.

        Returns:
            How many variables the second model has `restored`; all of them, and from all that is in the checkpoint.
            Whether they are `objects` of TensorFlow 2. Of a Keras model the twins in Keras' own formats too:
            `keras_files` with the suffix of each, and `keras_refused` with what Keras says of one that it cannot write.
        """
        bundle = Bundle(values)
        given = {name: bundle.read(name) for name in bundle}
        if self._graph is None:
            return self._restore_objects(given, prefix)
        return self._restore_graph(given, prefix)

    def compare(self, model: str, signature: str) -> dict[str, Any]:
        """Run the code's Keras model and a SavedModel on the same random input.

        Returns:
            `relative_error` of the code's model, or `reason` when the two cannot be compared.
        """
        import tensorflow as tf

        if not callable(self._made) or not hasattr(self._made, "inputs"):
            return {"reason": "only Keras models with inputs can be run"}
        served = tf.saved_model.load(model).signatures[signature]
        specs = served.structured_input_signature[1]
        theirs = list(self._made.inputs)
        if len(specs) != len(theirs) or any(not spec.dtype.is_floating for spec in specs.values()):
            return {"reason": "the inputs are others, or not all of floating point"}
        if any(spec.shape.rank is None for spec in specs.values()):
            return {"reason": "an input has no known rank"}
        random = np.random.default_rng(0)
        names = [it.name.split(":")[0] for it in theirs]
        order = names if set(names) == set(specs) else list(specs)
        feeds = {}
        for name, own in zip(order, theirs, strict=True):
            sizes = [
                mine if mine is not None else other if other is not None else 2
                for mine, other in zip(specs[name].shape, own.shape, strict=True)
            ]
            feeds[name] = tf.constant(random.random(sizes), specs[name].dtype)
        wanted = [value.numpy() for value in served(**feeds).values()]
        outputs = self._made([feeds[name] for name in order] if len(order) > 1 else feeds[order[0]], training=False)
        found = [value.numpy() for value in tf.nest.flatten(outputs)]
        if sorted(it.shape for it in wanted) != sorted(it.shape for it in found) or len(found) != 1:
            return {"reason": "the outputs are others"}
        largest = float(np.abs(wanted[0]).max())
        return {"relative_error": float(np.abs(found[0] - wanted[0]).max()) / largest if largest else 0.0}

    def _restore_objects(self, given: dict[str, Any], prefix: str) -> dict[str, Any]:
        import tensorflow as tf

        for name, value in given.items():
            self._variables[name].assign(value)
        tf.train.Checkpoint(self._made).write(prefix)
        again, _ = self._make()
        tf.train.Checkpoint(again).read(prefix).assert_consumed()
        self._check_restored(again, given, "tf.train.Checkpoint")
        return {"restored": len(_variables(again, None)), "objects": True, **self._write_keras_files(given, prefix)}

    def _write_keras_files(self, given: dict[str, Any], prefix: str) -> dict[str, Any]:
        """Write a Keras model beside the checkpoint, as `load_weights` and `load_model` take it."""
        if not hasattr(self._made, "save_weights"):
            return {}
        stem, refused = prefix.removesuffix(".ckpt"), {}
        weights = f"{stem}{WEIGHTS_SUFFIX}"
        self._made.save_weights(weights)
        again, _ = self._make()
        again.load_weights(weights)
        self._check_restored(again, given, "load_weights")
        try:  # Keras raises what it likes where a layer has no configuration
            self._made.save(f"{stem}{MODEL_SUFFIX}")
            _make_reproducible(Path(f"{stem}{MODEL_SUFFIX}"))
        except Exception as error:
            Path(f"{stem}{MODEL_SUFFIX}").unlink(missing_ok=True)
            refused[MODEL_SUFFIX] = f"{type(error).__name__}: {' '.join(str(error).split())[:_LONGEST]}"
        written = [suffix for suffix in (WEIGHTS_SUFFIX, MODEL_SUFFIX) if suffix not in refused]
        return {"keras_files": written, "keras_refused": refused}

    def _check_restored(self, made: Any, given: dict[str, Any], reader: str) -> None:
        variables = _variables(made, None)
        for name, value in given.items():
            if not np.array_equal(np.asarray(variables[name]), value):
                raise SourceError(f"--onto {self._function}: {name} was not restored by {reader}", hint=_SAME_EACH_TIME)

    def _restore_graph(self, given: dict[str, Any], prefix: str) -> dict[str, Any]:
        import tensorflow as tf

        v1 = tf.compat.v1
        with self._graph.as_default(), v1.Session(graph=self._graph) as session:
            session.run(v1.global_variables_initializer())
            for name, value in given.items():
                self._variables[name].load(value, session)
            v1.train.Saver(list(self._variables.values())).save(
                session, prefix, write_meta_graph=False, write_state=False
            )
        _, graph = self._make()
        variables = _variables(None, graph)
        with graph.as_default(), v1.Session(graph=graph) as session:
            v1.train.Saver(list(variables.values())).restore(session, prefix)
            left = list(session.run(v1.report_uninitialized_variables()))
            unused = set(Bundle(prefix)) - set(variables)
        if left or unused:
            raise SourceError(f"--onto {self._function}: left over {left} {sorted(unused)}", hint=_SAME_EACH_TIME)
        return {"restored": len(variables), "objects": False}

    def _make(self) -> tuple[Any, Any]:
        """Call the user's function; return the object that it returns, or else the graph that it filled."""
        import tensorflow as tf

        function = load_named(f"--onto {self._function}", self._function, "MODULE:FUNCTION")
        if getattr(sys.modules.get("keras"), "backend", None) is not None:
            sys.modules["keras"].backend.clear_session()  # so that automatic names start anew
        graph = tf.Graph()
        made = _call(function, None)
        if made is not None and not isinstance(made, tf.Tensor) and _variables(made, None):
            return made, None
        with graph.as_default():
            made = _call(function, graph)
        return None, graph


_SAME_EACH_TIME = "the function must make the same variables each time it is called"


def _make_reproducible(archive: Path) -> None:
    """Write a `.keras` archive anew without times and memory addresses, so that the same model is the same bytes."""
    numbers: dict[int, int] = {}

    def renumber(part: dict[str, Any]) -> dict[str, Any]:
        if isinstance(address := part.get(_SHARED), int):  # only told from others, when the archive is loaded
            part[_SHARED] = numbers.setdefault(address, len(numbers))
        return part

    with zipfile.ZipFile(archive) as written:
        members = {name: written.read(name) for name in written.namelist()}
    about = json.loads(members["metadata.json"])
    members["metadata.json"] = json.dumps({**about, "date_saved": ""}).encode()
    members["config.json"] = json.dumps(json.loads(members["config.json"], object_hook=renumber)).encode()
    with zipfile.ZipFile(archive, "w") as anew:
        for name, content in members.items():
            anew.writestr(zipfile.ZipInfo(name), content)


def _call(function: Any, graph: Any) -> Any:
    """Call the function; code for TF1 graphs fails outside of one, and then there is nothing."""
    try:
        return function()
    except (RuntimeError, ValueError):
        if graph is not None:
            raise
        return None


def _variables(made: Any, graph: Any) -> dict[str, Any]:
    """Return the variables by their names, as checkpoints and people call them."""
    import tensorflow as tf

    if graph is not None:
        with graph.as_default():
            return {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
    found: dict[str, Any] = {}
    weights = getattr(made, "weights", None)
    for variable in weights if weights is not None else getattr(made, "variables", ()):
        name = getattr(variable, "path", None) or str(variable.name).removesuffix(":0")
        found[free_name(found, name)] = variable
    return found
