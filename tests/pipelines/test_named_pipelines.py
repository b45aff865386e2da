from pathlib import Path

import pytest

from tpu2gpu.errors import UsageError
from tpu2gpu_pipelines.local import DEFAULT_PIPELINE
from tpu2gpu_pipelines.module_source import lacks
from tpu2gpu_pipelines.named_pipelines import NAMED_PIPELINES, path_of, settings_of
from tpu2gpu_pipelines.pipeline_flags import given_settings
from tpu2gpu_pipelines.settings import Settings, load_settings
from tpu2gpu_pipelines.trainers.retinanet.configuration import make_config


def test_each_name_means_a_pipeline_that_is_there():
    assert path_of("digits") == DEFAULT_PIPELINE
    assert path_of("mine:create") == "mine:create"
    for name, named in NAMED_PIPELINES.items():
        assert lacks(*path_of(name).split(":")) == ""
        assert settings_of(name) == settings_of(named.path)
    assert settings_of("digits") == settings_of("mine:create") == Settings()


def test_a_settings_file_changes_what_the_pipeline_starts_from(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("training: {steps: 3}\ncast: {max_relative_error: 0.01}\n")
    default = settings_of("detector")
    mine = load_settings(file, default=default)
    assert mine.training.steps == 3
    assert mine.training.run_fn == default.training.run_fn
    assert mine.training.config == {"size": "tiny"}
    assert mine.cast.max_relative_error == 0.01
    assert mine.cast.feature == ("image_bytes=image/encoded",)
    assert mine.evaluate == default.evaluate
    assert given_settings({"pipeline": path_of("detector"), "settings": str(file)}) == mine
    assert given_settings({"pipeline": path_of("detector"), "settings": None}) == default


def test_the_detector_s_sizes_are_told_apart():
    assert make_config({}).size == "tiny"
    assert make_config({"size": "resnet50-fpn-640", "classes": 90}).classes == 90
    for wrong, why in (
        ({"size": "tinny"}, "did you mean 'tiny'"),
        ({"sise": 1}, "no such key sise"),
        ({"classes": 0}, "must be a whole number above 0"),
        ({"classes": True}, "must be a whole number above 0"),
        ({"estimator_export": "yes"}, "must be true or false"),
    ):
        with pytest.raises(UsageError, match=why):
            make_config(wrong)
