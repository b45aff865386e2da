"""Archives in which two members have one name are refused: readers differ in which of them they take."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tpu2gpu.errors import ExamplesError, Tpu2GpuError
from tpu2gpu.graphs.formats.numpy_headers import check_arrays
from tpu2gpu.running.examples.feeds import read_examples
from tpu2gpu.running.runner import TensorSpec


def _arrays(path: Path, *names: str) -> Path:
    array = io.BytesIO()
    np.save(array, np.ones([2, 4], np.float32))
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, array.getvalue())
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["x.npy", "x"])
def test_arrays_of_one_name_are_refused(second: str, tmp_path: Path) -> None:
    path = _arrays(tmp_path / "x.npz", "x.npy", second)
    with path.open("rb") as file, pytest.raises(Tpu2GpuError, match="two members are called 'x'"):
        check_arrays("x.npz", file)
    with pytest.raises(Tpu2GpuError, match="two members are called 'x'"):
        read_examples([str(path)], [TensorSpec("x", "float32", (None, 4))])


def test_a_device_is_no_file_of_examples(tmp_path: Path) -> None:
    (tmp_path / "x.npz").symlink_to("/dev/zero")
    with pytest.raises(ExamplesError, match="no regular file"):
        read_examples([str(tmp_path / "x.npz")], [TensorSpec("x", "float32", (None, 4))])
