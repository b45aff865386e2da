"""The newest whole version in the promotion folder is what the next candidate has to beat."""

from __future__ import annotations

from pathlib import Path

from tpu2gpu.storage.promotion.stock_pusher import newest_version
from tpu2gpu.storage.publishing import publish


def version(folder: Path, name: str) -> Path:
    with publish(folder / name, about={"step": "convert"}) as staging:
        (staging.folder / "model.onnx").write_text(name)
    return folder / name


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert newest_version(str(tmp_path / "promoted")) is None
    assert newest_version(str(tmp_path)) is None


def test_the_newest_by_number_not_by_name(tmp_path: Path) -> None:
    version(tmp_path, "999")
    newest = version(tmp_path, "1700000000")
    version(tmp_path, "1600000000")
    (tmp_path / "latest").mkdir()
    (tmp_path / "1800000000").touch()
    assert newest_version(str(tmp_path)) == newest
    assert newest_version(f"file://{tmp_path}") == newest


def test_a_version_that_is_still_on_its_way_or_was_changed_is_passed_over(tmp_path: Path) -> None:
    whole = version(tmp_path, "1")
    (version(tmp_path, "2") / "model.onnx").unlink()
    (version(tmp_path, "3") / "model.onnx").write_text("x")
    (tmp_path / "4").mkdir()
    assert newest_version(str(tmp_path)) == whole


def test_an_object_store_is_read(tmp_path: Path) -> None:
    import fsspec

    version(tmp_path, "1")
    (version(tmp_path, "2") / "model.onnx").unlink()
    fsspec.filesystem("memory").put(f"{tmp_path}/", "/stock", recursive=True)
    assert str(newest_version("memory://stock")) == "memory://stock/1"
