"""The `tpu2gpu` command: what it prints where, how it fails, and what it leaves behind."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models.evaluation_models import onnx_model, write_examples
from tpu2gpu.cli.flags import given_options, option_flags
from tpu2gpu.command_line import COMMANDS as COMMANDS_OF_STEPS
from tpu2gpu.command_line import Call, Command, Reply, argument
from tpu2gpu.errors import UsageError
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.writer import BundleWriter

Run = Callable[..., tuple[int, str, str]]
COMMANDS = (
    "optimize",
    "import",
    "cast",
    "freeze",
    "unfreeze",
    "convert",
    "evaluate",
    "inspect",
    "verify",
    "doctor",
    "run",
    "compile",
    "submit",
    "schedule",
)


# What is wrong: the command line, the exit code, and words that the message must have.
BAD = {
    "no such command": ("caast model out", 2, "no command 'caast'; did you mean 'cast'?"),
    "a value that others call so": ("cast model out --to fp16", 2, "did you mean 'float16'?"),
    "a back end that others call so": ("convert model out --backend TensorRT-RTX", 2, "did you mean 'tensorrt_rtx'?"),
    "no such option": ("cast model out --too float16", 2, "no option --too; did you mean '--to'?"),
    "no such option at all": ("cast model out --xyzzy", 2, "'tpu2gpu cast --help' tells more"),
    "a missing argument": ("freeze model", 2, "missing argument 'TARGET'"),
    "a missing option": ("evaluate model model --out out", 2, "--examples and --synthetic: one of them is needed"),
    "too many arguments": ("freeze model out again", 2, "again"),
    "an option without value": ("cast model out --to", 2, "--to"),
    "a value that is no choice": ("cast model out --to float17", 2, "float17: not one of float32, float16, bfloat16"),
    "a value that is no number": ("evaluate model model --examples x --out out --requests many", 2, "many"),
    "a value out of range": ("evaluate model model --examples x --out out --requests 0", 2, "must be at least 1"),
    "a target that exists": ("cast model taken", 2, "taken: exists already; choose another TARGET or give --force"),
    "a file that exists: compile": ("compile -o file", 2, "file: exists already; choose another file or give --force"),
    "a target that is a file": ("freeze model file", 2, "file: a file is there"),
    "a source that is missing: import": ("import nowhere out", 3, "nowhere"),
    "a source that is missing: cast": ("cast nowhere out", 3, "nowhere"),
    "a source that is missing: freeze": ("freeze nowhere out", 3, "nowhere"),
    "a source that is missing: unfreeze": ("unfreeze nowhere out", 3, "nowhere"),
    "a source that is missing: convert": ("convert nowhere out", 3, "nowhere"),
    "a source that is missing: inspect": ("inspect nowhere", 3, "nowhere"),
    "a source that is missing: verify": ("verify nowhere", 3, "nowhere"),
    "a reference that is missing": ("evaluate nowhere model --synthetic 9 --out out", 3, "nowhere"),
    "a candidate that is missing": ("evaluate model nowhere --synthetic 9 --out out", 3, "nowhere"),
    "examples that are missing": ("cast model out --examples eva.npz", 3, "eva.npz: no such file"),
    "a damaged model: import": ("import garbage out", 3, "garbage"),
    "a damaged model: cast": ("cast garbage out", 3, "garbage"),
    "a damaged model: freeze": ("freeze garbage out", 3, "garbage"),
    "a folder that is no model": ("import empty out", 3, "empty"),
    "a file that is no model": ("import file out", 3, "file: not a model or checkpoint"),
    "a signature that is missing": ("freeze model out --signature predict", 3, "predict"),
    "a folder without manifest": ("verify empty", 3, "no manifest.json there"),
    "a rename rule of the wrong form": ("import model out --rename abc", 2, "abc"),
    "a settings file that is missing": ("run --settings nowhere.yaml", 3, "nowhere.yaml: cannot be read"),
    "a settings file with a mistake in its name": ("run --settings bed.yaml", 3, "did you mean 'bad.yaml'?"),
    "a settings key that is unknown": ("run --settings bad.yaml", 2, "cast.too: no such key; did you mean 'to'?"),
    "a pipeline of the wrong form": (
        "run --pipeline somewhere",
        2,
        "must be MODULE:FUNCTION; or one of digits, detector",
    ),
    "a pipeline with a mistake in its name": ("run --pipeline digts", 2, "did you mean 'digits'?"),
    "a pipeline that is missing": ("run --pipeline no_such_module:make", 3, "no_such_module"),
    "a function that is missing": ("run --pipeline json:make", 3, "has no attribute 'make'"),
    "a target below a file": ("import model file/out", 2, "file/out: cannot be written ("),
    "no run in a folder": ("report --root empty", 3, "empty: no run left its metadata.sqlite there; give the folder"),
    "a root that cannot be": ("run --root file/demo", 3, "file/demo: cannot be written"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_line_and_leaves_nothing(run: Run, place: Path, what: str) -> None:
    line, expected, words = BAD[what]
    before = sorted(place.iterdir())
    code, out, err = run(*line.split())
    assert code == expected
    message = err[err.index("error: ") :]
    assert words in message
    assert "Traceback" not in err
    assert out == ""
    assert [path for path in sorted(place.iterdir()) if path not in before and path.name != "demo"] == []
    assert (place / "taken" / "precious").read_text() == "mine"


def test_an_error_is_json_too_where_that_was_asked_for(run: Run, place: Path) -> None:
    code, out, err = run("cast", "nowhere", "out", "--json")
    said = json.loads(out)
    assert (code, said["exit_code"], said["error"]) == (3, 3, "SourceError")
    assert "nowhere" in said["message"]
    assert err.startswith("error: ")


def test_debug_shows_the_traceback(run: Run, place: Path) -> None:
    code, _, err = run("cast", "nowhere", "out", "--debug")
    assert code == 3
    assert "Traceback (most recent call last)" in err
    assert "error: nowhere" in err


def test_a_mistake_of_ours_is_told_as_one(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: str) -> None:
        raise KeyError("digest")

    monkeypatch.setattr("tpu2gpu.storage.publishing.verify_model", broken)
    code, _, err = run("verify", "model")
    assert code == 70
    assert err == "error: KeyError: 'digest': this is a mistake in tpu2gpu; --debug shows where\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_the_system_refuses_is_no_mistake_of_ours(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(folder: str) -> None:
        raise OSError(number, os.strerror(number), "out/file")

    monkeypatch.setattr("tpu2gpu.storage.publishing.verify_model", refused)
    assert run("verify", "model") == (4, "", f"error: out/file: {os.strerror(number)}\n")


def test_a_chain_of_steps_as_a_script_would_run_it(run: Run, place: Path) -> None:
    assert run("import", "model", "imported")[0] == 0
    code, out, _ = run("cast", "imported", "cast", "--to", "float16", "--json")
    assert (code, json.loads(out)["target"]) == (0, "cast")
    code, out, err = run("freeze", "cast", "frozen")
    assert (code, out.splitlines()[0]) == (0, "wrote frozen")
    assert "read the graph" in err  # no terminal: plain lines
    code, out, _ = run("unfreeze", "frozen", "--list", "--json")
    listed = json.loads(out)
    assert (code, bool(listed)) == (0, True)
    code, out, _ = run("unfreeze", "frozen", "unfrozen", "--json")
    assert (code, json.loads(out)["variables"]) == (0, len(listed))
    code, out, _ = run("convert", "frozen", "served", "--backend", "onnx")
    assert (code, out.splitlines()[0]) == (0, "wrote served")
    code, out, _ = run("verify", "unfrozen", "--json")
    assert (code, json.loads(out)["step"]) == (0, "unfreeze")


def test_cast_takes_a_checkpoint_by_its_name_its_index_its_folder_and_its_address(run: Run, place: Path) -> None:
    import fsspec

    with BundleWriter(place / "run" / "model.ckpt-7") as writer:
        writer.add_array("w", np.ones(3, np.float32))
    files = fsspec.filesystem("memory")
    files.put(f"{place / 'run'}/", "/cast-run", recursive=True)
    sources = ("run/model.ckpt-7", "run/model.ckpt-7.index", "run", "memory://cast-run/model.ckpt-7")
    for number, source in enumerate(sources):
        code, out, _ = run("cast", source, f"out{number}", "--json")
        assert (code, json.loads(out)["cast_tensors"]) == (0, 1), source
        assert Bundle(place / f"out{number}" / "checkpoint" / "model.ckpt").entry("w").dtype_name == "float16"
    files.rm("/cast-run", recursive=True)


def test_cast_runs_on_a_beam_runner_and_tells_what_found_nothing(run: Run, place: Path) -> None:
    flags = ("--runner", "DirectRunner", "--beam=--direct_num_workers=1", "--keep", "nosuch")
    code, out, err = run("cast", "model", "out", *flags, "--json")
    assert (code, "--keep 'nosuch': found nothing" in err) == (0, True)
    assert json.loads(out)["report"]["shards"][0]["file"] == "variables.data-00000-of-00001"


def test_cast_lists_what_it_casts_and_what_not(run: Run, place: Path) -> None:
    code, out, _ = run("cast", "--list", "--json")
    listed = {it["op"]: (it["cast"], it["reason"]) for it in json.loads(out)}
    assert (code, listed["MatMul"][0], listed["Relu"][0], listed["Softmax"][0]) == (0, "yes", "follows", "small")
    assert listed["Exp"] == ("no", "its result leaves the narrow range, or loses its digits there")
    assert any(
        line.startswith("Exp ") and line.endswith("digits there") for line in run("cast", "--list")[1].splitlines()
    )
    assert run("cast", "model")[0] == 2


def test_evaluate_ends_with_1_for_a_refused_candidate_and_says_why(run: Run, place: Path) -> None:
    examples = write_examples(place / "examples.tfrecord")
    good, bad = onnx_model(place / "good.onnx"), onnx_model(place / "bad.onnx", "swapped")
    measure = ("--examples", examples, "--requests", 40, "--block-requests", 10, "--warm-up-requests", 5)
    code, out, _ = run("evaluate", good, good, *measure, "--out", "blessed")
    assert (code, out.splitlines()[0]) == (
        0,
        "BLESSED: good.onnx against good.onnx (Speed was not judged: no budget of speed was given.)",
    )
    assert "p50" in out
    code, out, _ = run("evaluate", good, bad, *measure, "--out", "refused", "--json")
    found = json.loads(out)
    assert (code, found["blessed"], found["model_blessed"], found["infra_blessed"]) == (1, False, False, True)
    assert (place / "refused" / "report.html").exists()  # a refusal is a result, and its report is whole


def test_force_replaces_an_output(run: Run, place: Path) -> None:
    assert run("freeze", "model", "frozen")[0] == 0
    (place / "frozen" / "more").touch()
    assert run("freeze", "model", "frozen", "--force")[0] == 0
    assert not (place / "frozen" / "more").exists()
    assert run("freeze", "model", "taken", "--force")[0] == 2
    assert (place / "taken" / "precious").read_text() == "mine"


def test_a_changed_file_is_found(run: Run, place: Path) -> None:
    run("freeze", "model", "frozen")
    with (place / "frozen" / "saved_model.pb").open("ab") as file:
        file.write(b"\0")
    code, _, err = run("verify", "frozen")
    assert code == 3
    assert "saved_model.pb: " in err


def test_inspect_tells_signatures_and_variables(run: Run, place: Path) -> None:
    code, out, _ = run("inspect", "model")
    assert code == 0
    assert "signature serving_default" in out
    assert "float32  [?, 8, 8, 1]" in out
    assert "variables, " in out
    assert json.loads(run("inspect", "model", "--json")[1])["kind"] == "SavedModel"


def test_doctor_says_what_works_and_why_the_rest_does_not(run: Run) -> None:
    code, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert (code, found["healthy"], found["back_ends"]["onnx"]["available"]) == (0, True, True)
    for name, one in found["back_ends"].items():
        assert one["reason"], name
    assert found["packages"]["tensorflow"].startswith("2.")
    assert "back end" in run("doctor")[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_the_common_flags(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    for flag in ("--json", "--limit", "--debug"):
        assert flag in out
    assert command in run("--help")[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_only_commands_that_replace_or_do_anew_take_force(run: Run, command: str) -> None:
    assert ("--force" in run(command, "--help")[1]) == (command not in ("inspect", "verify", "doctor", "schedule"))


def test_a_command_that_writes_no_output_refuses_force(run: Run) -> None:
    code, out, err = run("inspect", "model", "--force")
    assert (code, out) == (2, "")
    assert "no option --force" in err


def test_every_flag_that_scripts_rely_on_is_there(run: Run) -> None:
    wanted = {
        "import": ("--rename",),
        "cast": ("--to", "--keep", "--keep-op", "--on-overflow", "--cast-signature", "--examples"),
        "freeze": ("--format",),
        "unfreeze": ("--include", "--exclude", "--list"),
        "convert": ("--backend", "--profile", "--int8", "--examples", "--layout", "--triton-backend"),
        "evaluate": (
            "--examples",
            "--out",
            "--max-p99-ms",
            "--min-speedup",
            "--max-relative-error",
            "--min-top1-agreement",
            "--max-accuracy-drop",
            "--allow-undecided",
            "--require-level",
        ),
        "run": ("--pipeline", "--settings"),
        "compile": ("--pipeline", "--settings", "-o,"),
        "submit": ("--pipeline", "--settings", "--host", "--namespace", "--token-file", "--parameter", "--no-wait"),
        "schedule": ("--pipeline", "--settings", "--cron", "--interval-s", "--list", "--pause", "--delete"),
    }
    for command, flags in wanted.items():
        help_text = run(command, "--help")[1]
        assert [flag for flag in flags if f"{flag} " not in help_text and f"{flag}\n" not in help_text] == []


def _greet(call: Call) -> Reply:
    return Reply({"said": call.given["name"]}, [f"hello {call.given['name']}"], notes=["politely"], exit_code=1)


GREET = Command(name="greet", summary="Greet somebody.", run=_greet, parameters=[argument("NAME")])


def test_a_command_is_one_object_and_one_line_in_the_list(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpu2gpu.cli.main.COMMANDS", (*COMMANDS_OF_STEPS, f"{__name__}:GREET"))
    assert "Greet somebody." in run("--help")[1]
    assert run("greet", "Ada") == (1, "hello Ada\n", "politely\n")
    assert json.loads(run("greet", "Ada", "--json")[1]) == {"said": "Ada"}
    assert run("greet")[0] == 2


def test_values_of_a_list_are_given_with_commas_or_by_repeating_the_flag():
    import click

    cls = EvaluateOptions
    command = click.Command("evaluate", params=option_flags(cls), callback=lambda **given: given_options(cls, given))
    words = ["--batch-sizes", "1,8", "--batch-sizes", "32", "--scenario", "server, offline"]
    found = command.main(words, standalone_mode=False)
    assert (found.batch_sizes, found.scenario) == ((1, 8, 32), ("server", "offline"))
    with pytest.raises(click.BadParameter, match="'x' is not a valid int"):
        command.main(["--batch-sizes", "1,x"], standalone_mode=False)
    with pytest.raises(UsageError, match="--scenario sever: not one of"):
        command.main(["--scenario", "sever"], standalone_mode=False)


def test_help_is_quick_and_loads_no_heavy_library() -> None:
    code = (
        "import sys; from tpu2gpu.cli.main import main; main(['--help']); "
        "print(sorted({'tensorflow', 'tfx', 'numpy', 'onnx', 'keras', 'rich', 'tpu2gpu_pipelines'} & set(sys.modules)))"
    )
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.stdout.splitlines()[-1] == "[]"
    assert min(seconds) < 0.3  # of CPU time, which a busy machine does not stretch as it does the clock's


@pytest.mark.parametrize(
    ("number", "expected", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_broken_off_conversion_leaves_nothing(place: Path, number: signal.Signals, expected: int, word: str) -> None:
    heeding = ["env", "--default-signal=INT"]  # which background jobs of a script ignore
    command = [*heeding, sys.executable, "-m", "tpu2gpu", "convert", "model", "out/served", "--backend", "onnx"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "tpu2gpu convert model out/served\n"
        assert "ONNX" in process.stderr.readline()
        time.sleep(0.5)
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == expected
    assert rest.splitlines()[-1] == f"error: {word}"
    assert "Traceback" not in rest
    assert list((place / "out").iterdir()) == []


def test_the_version_and_a_command_s_help_come_by_the_words_that_people_try(run: Run) -> None:
    assert run("-V") == run("--version")
    assert run("help", "cast") == run("cast", "--help")
    assert run("help") == run("--help")


def test_on_a_terminal_a_wait_says_what_goes_on_and_libraries_stay_unheard(tmp_path: Path) -> None:
    code = (
        "import sys, time, warnings; from tpu2gpu.cli.terminal import Terminal\n"
        "with Terminal() as terminal:\n"
        "    terminal.activity_if_slow('tpu2gpu inspect big')\n"
        "    with terminal.quiet():\n"
        "        for _ in range(30): time.sleep(0.1); print('a library speaks', file=sys.stderr, flush=True)\n"
        "    terminal.result({}, ['the result'])\n"
    )
    (tmp_path / "wait.py").write_text(code)
    words = ["script", "-qec", f"{sys.executable} {tmp_path / 'wait.py'}", "/dev/null"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout
    assert "tpu2gpu inspect big" in shown
    assert "the result" in shown
    assert "a library speaks" not in shown
