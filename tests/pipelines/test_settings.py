"""Settings come from one YAML file; what is wrong in it is said all at once, with the path of each key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tpu2gpu.errors import SourceError, UsageError
from tpu2gpu_pipelines.settings import Settings, load_settings, make_settings


def test_an_empty_file_is_the_demo(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("# nothing\n")
    assert load_settings(tmp_path / "settings.yaml") == Settings()


def test_sections_hold_the_options_of_their_steps(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        """
        name: my-model
        root: runs
        training: {steps: 10, learning_rate: 1e-3}
        import: {signature: serving_default}
        cast: {to: bfloat16, keep: [head, tail]}
        evaluate: {requests: 5, allow_undecided: [min_speedup]}
        """
    )
    settings = load_settings(tmp_path / "settings.yaml")
    assert (settings.name, settings.root, settings.promotion_folder) == ("my-model", "runs", "runs/promoted")
    assert settings.training.learning_rate == 0.001  # text to YAML 1.1, a number to us
    assert settings.import_.signature == ("serving_default",)  # one value is a list of one
    assert settings.cast.keep == ("head", "tail")
    assert settings.evaluate.requests == 5
    assert settings.evaluate.max_p99_ms == Settings().evaluate.max_p99_ms  # what is not said stays


def test_everything_that_is_wrong_is_said_at_once() -> None:
    values = {
        "caast": {},
        "cast": {"too": "float16", "to": "float8"},
        "training": {"steps": 0},
        "evaluate": {"max_p99_ms": "soon"},
        "freeze": 3,
        "cache": "yes",
    }
    with pytest.raises(UsageError) as caught:
        make_settings(values, "my.yaml")
    wanted = [
        "my.yaml: cannot be used as settings",
        "  - caast: no such key; did you mean 'cast'?",
        "  - cast.too: no such key; did you mean 'to'?",
        "  - cast.to: float8: not one of float32, float16, bfloat16",
        "  - training.steps: 0: must be at least 1",
        "  - evaluate.max_p99_ms: 'soon': must be float, not str",
        "  - freeze: must be keys and values, not int",
        "  - cache: 'yes': must be bool, not str",
    ]
    lines = str(caught.value).splitlines()
    assert [line[: len(want)] for line, want in zip(lines, wanted, strict=True)] == wanted


@pytest.mark.parametrize("name", ["Digits", "two words", "-x", "x" * 64, ""])
def test_a_pipeline_name_is_one_that_kubeflow_takes(name: str) -> None:
    with pytest.raises(UsageError, match="small letters"):
        Settings(name=name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cast: {to: float16}\ncast: {to: float32}\n", "'cast' stands there twice"),
        ("cast: [", "not YAML"),
        ("- a\n- b\n", "must be keys and values, not list"),
        ("x: !!python/object/apply:os.system [ls]\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_settings_file(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises((SourceError, UsageError), match=r"bad\.yaml") as caught:
        load_settings(tmp_path / "bad.yaml")
    assert says in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SourceError, match=r"nowhere\.yaml: cannot be read"):
        load_settings("nowhere.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "name: 2020-13-45",  # no such day
        "name: 2001-12-14t21:59:43.10-99:00",  # no such zone
        "? [a]\n: 1",  # a key of no hash
        "training: &a {config: *a}",
        "<<: 1",
        "[" * 10_000,
        "root: !!binary x",
        "root: !!int x",
    ],
)
def test_what_yaml_cannot_make_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises((SourceError, UsageError), match=r"bad\.yaml"):
        load_settings(tmp_path / "bad.yaml")


def test_a_billion_laughs_in_settings_are_refused(tmp_path: Path) -> None:
    lines = ["x0: &x0 [ha]", *(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 10))]
    (tmp_path / "bad.yaml").write_text("\n".join([*lines, "training: {config: {laugh: *x9}}"]))
    with pytest.raises(SourceError, match="named again and again"):
        load_settings(tmp_path / "bad.yaml")


def test_nothing_waits_for_a_pipe_or_reads_a_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "zeros"):
        with pytest.raises(SourceError, match="no regular file"):
            load_settings(tmp_path / name)
