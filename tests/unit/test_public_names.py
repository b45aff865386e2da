"""What `import tpu2gpu` offers, and what it costs."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

import tpu2gpu
from tpu2gpu import errors


def test_every_public_name_is_there_and_documented() -> None:
    for name in tpu2gpu.__all__:
        value = getattr(tpu2gpu, name)
        assert name == "__version__" or inspect.getdoc(value), name


def test_type_checkers_are_told_the_names_that_are_there() -> None:
    (block,) = (node for node in ast.parse(inspect.getsource(tpu2gpu)).body if isinstance(node, ast.If))
    told = {(it.module, alias.name) for it in block.body if isinstance(it, ast.ImportFrom) for alias in it.names}
    assert told == {(f"tpu2gpu.{home}", name) for home, names in tpu2gpu._HOMES.items() for name in names}


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import sys, tpu2gpu; print(*sorted({'tensorflow', 'tfx', 'numpy', 'onnx', 'keras'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert loaded.strip() == ""


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(tpu2gpu, "convert_everything")


def test_every_error_is_drawn_in_the_tree_with_its_exit_code() -> None:
    lines = (errors.__doc__ or "").splitlines()
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.Tpu2GpuError)]
    for kind in kinds:
        line = next(line for line in lines if kind.__name__ in line.split())
        if "exit" in line:
            assert f"exit {kind.exit_code} " in line


def test_an_error_is_one_line_with_its_way_out_and_one_more_for_each_detail() -> None:
    error = errors.GraphError("two nodes stand in the way", details=["a (Op)", "b (Op)"], hint="cut them")
    assert str(error) == "two nodes stand in the way; cut them\n  - a (Op)\n  - b (Op)"
    copy = errors.from_json(error.to_json())
    assert type(copy) is errors.GraphError
    assert str(copy) == str(error)


@pytest.mark.parametrize(("said", "reason"), [("first\nsecond", "first"), ("", "ValueError"), ("  one  ", "one")])
def test_an_error_of_a_library_becomes_ours_with_its_first_line(said: str, reason: str) -> None:
    with (
        pytest.raises(errors.SourceError) as caught,
        errors.foreign_errors(errors.SourceError, "x.pb: cannot be read", details=["a"], hint="make it anew"),
    ):
        raise ValueError(said)
    assert str(caught.value) == f"x.pb: cannot be read ({reason}); make it anew\n  - a"
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (  # TensorFlow 2.16, of a loaded SavedModel
            (
                "Graph execution error:\n\nDetected at node map/while/Reshape defined at (most recent call last):\n"
                "<stack traces unavailable>\n"
                "Input to reshape is a tensor with 3 values, but the requested shape has 4\n"
                "\t [[{{node map/while/Reshape}}]] [Op:__inference_signature_wrapper_g_256]"
            ),
            "map/while/Reshape: Input to reshape is a tensor with 3 values, but the requested shape has 4",
        ),
        (  # of a function in the same process
            (
                "Graph execution error:\n\nDetected at node MatMul defined at (most recent call last):\n"
                '  File "/tmp/err.py", line 6, in f\n\nMatrix size-incompatible: In[0]: [2,3], In[1]: [2,3]\n'
                "\t [[{{node MatMul}}]] [Op:__inference_f_304]"
            ),
            "MatMul: Matrix size-incompatible: In[0]: [2,3], In[1]: [2,3]",
        ),
        (
            (
                "2 root error(s) found.\n  (0) INVALID_ARGUMENT:  indices[0] = 7 is not in [0, 2)\n"
                "\t [[{{node GatherV2}}]]\n  (1) INVALID_ARGUMENT:  indices[0] = 7 is not in [0, 2)"
            ),
            "GatherV2: indices[0] = 7 is not in [0, 2)",
        ),
        (  # ONNX Runtime 1.23
            (
                "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running MatMul node. "
                "Name:'net/mm' "
                "Status Message: matmul_helper.h:59 Compute MatMul dimension mismatch"
            ),
            "MatMul net/mm: matmul_helper.h:59 Compute MatMul dimension mismatch",
        ),
        ("no such operator. Try again with --extra_opset.", "no such operator."),
        ("use --fold_const", "use --fold_const"),  # nothing else is said
    ],
)
def test_the_reason_of_a_library_is_told_with_its_node_and_without_its_flags(said: str, reason: str) -> None:
    assert errors.first_line(RuntimeError(said)) == reason


@pytest.mark.parametrize("error", [errors.ExamplesError("ours"), KeyError("let pass"), OSError("not caught")])
def test_other_errors_of_the_block_stay_as_they_are(error: Exception) -> None:
    with (
        pytest.raises(type(error)) as caught,
        errors.foreign_errors(errors.SourceError, "x", catch=(ValueError, KeyError), let_pass=KeyError),
    ):
        raise error
    assert caught.value is error


def test_every_step_takes_none_for_progress_and_lists_public_names_alone() -> None:
    import inspect

    import tpu2gpu

    steps = [getattr(tpu2gpu, name) for name in dir(tpu2gpu) if name.endswith(("_model", "_checkpoint"))]
    taking = [step for step in steps if "progress" in inspect.signature(step).parameters]
    assert len(taking) >= 7
    assert all(inspect.signature(step).parameters["progress"].default is None for step in taking)
    assert "importlib" not in dir(tpu2gpu)
