"""`data_uri`: any Examples artifact, in any compression, becomes what trainers expect."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpu2gpu.errors import ExamplesError
from tpu2gpu_pipelines import detector, tpu_to_gpu
from tpu2gpu_pipelines.examples import DigitExamples, copy_splits
from tpu2gpu_pipelines.files_state import files_state
from tpu2gpu_pipelines.local import _here
from tpu2gpu_pipelines.settings import Settings
from tpu2gpu_pipelines.step_names import step_names


def write(path: Path, compression: str, count: int = 3, size: int = 20) -> None:
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as file:
        for number in range(count):
            features = {"x": tf.train.Feature(bytes_list=tf.train.BytesList(value=[bytes([number]) * size]))}
            file.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def read(folder: Path) -> list[bytes]:
    import tensorflow as tf

    files = [str(path) for path in sorted(folder.iterdir())]
    return list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
@pytest.mark.parametrize("layout", ["Split-{}", "{}"])
@pytest.mark.parametrize("name", ["data_tfrecord-00000-of-00001.gz", "part-0.tfrecord", "part-0"])
def test_any_compression_layout_and_name_is_taken(tmp_path: Path, compression: str, layout: str, name: str) -> None:
    for split in ("train", "eval"):
        write(tmp_path / "data" / layout.format(split) / name, compression)
        (tmp_path / "data" / layout.format(split) / "_SUCCESS").touch()
    assert copy_splits(str(tmp_path / "data"), str(tmp_path / "copy")) == {"train": 3, "eval": 3}
    copied = [read(tmp_path / "copy" / f"Split-{split}") for split in ("train", "eval")]
    assert [len(records) for records in copied] == [3, 3]
    assert all(path.name.endswith(".gz") for path in (tmp_path / "copy" / "Split-train").iterdir())


@pytest.mark.parametrize("size", [0x8B1F - 16, 0x0178 - 10, 0x9C78 - 12])
def test_a_plain_record_whose_length_looks_like_a_compressed_file_is_plain(tmp_path: Path, size: int) -> None:
    for split in ("train", "eval"):
        write(tmp_path / "data" / f"Split-{split}" / "part", "", count=1, size=size)
    assert copy_splits(str(tmp_path / "data"), str(tmp_path / "copy")) == {"train": 1, "eval": 1}


def test_a_missing_split_is_named_with_what_is_there(tmp_path: Path) -> None:
    write(tmp_path / "Split-train" / "part", "")
    write(tmp_path / "Split-test" / "part", "")
    with pytest.raises(ExamplesError, match="no TFRecord files of Split-eval") as caught:
        copy_splits(str(tmp_path), str(tmp_path / "copy"))
    assert "there is Split-test" in caught.value.details
    with pytest.raises(ExamplesError, match="nothing is there"):
        copy_splits(str(tmp_path / "nowhere"), str(tmp_path / "copy"))


@pytest.mark.parametrize(("content", "says"), [(b"no record at all, but long enough", "damaged"), (b"", "no example")])
def test_a_damaged_or_empty_file_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    write(tmp_path / "Split-train" / "part", "")
    (tmp_path / "Split-eval").mkdir()
    (tmp_path / "Split-eval" / "broken").write_bytes(content)
    with pytest.raises(ExamplesError, match=says) as caught:
        copy_splits(str(tmp_path), str(tmp_path / "copy"))
    assert "eval" in str(caught.value)


def test_the_step_that_brings_the_user_s_own_examples_is_not_called_by_ours(tmp_path: Path) -> None:
    own = Settings(data_uri=str(tmp_path))
    for create, made in ((tpu_to_gpu.create_pipeline, "DigitExamples"), (detector.create_pipeline, "SceneExamples")):
        assert [create(it).components[0].id for it in (Settings(), own)] == [made, "Examples"]
    assert [step_names(it)[0] for it in (Settings(), own)] == ["DigitExamples", "Examples"]


def test_examples_that_changed_in_their_place_are_another_input(tmp_path: Path) -> None:
    write(tmp_path / "Split-train" / "part", "")
    settings = _here(Settings(data_uri=str(tmp_path)))
    assert settings.data_state == files_state(str(tmp_path))

    def digest(state: str) -> str:
        return str(DigitExamples(data_uri=str(tmp_path), state=state).exec_properties["source_sha256"])

    before = digest(settings.data_state)
    write(tmp_path / "Split-train" / "part", "", count=4)
    assert digest(_here(Settings(data_uri=str(tmp_path))).data_state) != before
    assert _here(Settings()).data_state == ""
