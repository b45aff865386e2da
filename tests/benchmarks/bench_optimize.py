"""`tpu2gpu optimize` against the five commands that it stands for: the same candidates, the same requests."""

from __future__ import annotations

from tests.benchmarks.measuring import Comparison, Goal, Setting, build, clear, in_turns, ours

THEIRS = "import, cast, freeze, convert, evaluate"
_REQUESTS = ("--requests", "60", "--max-requests", "60", "--warm-up-requests", "5")


def make_model(folder: str) -> None:
    """Write a small model, and examples with labels."""
    from pathlib import Path

    from tests.models.evaluation_models import saved_model, write_examples

    saved_model(Path(folder) / "model")
    write_examples(Path(folder) / "examples.tfrecord")


def measure(setting: Setting) -> list[Comparison]:
    """Measure two precisions; in a large run one as well."""
    folder = setting.folder
    build("bench_optimize:make_model", folder)
    examples = ("--examples", folder / "examples.tfrecord")
    measured = (*examples, *_REQUESTS, "--force")
    found = []
    for precisions in (("float32", "float16"), *((("float16",),) if setting.large else ())):
        wanted = ("--precision", ",".join(precisions), "--backend", "onnx")
        chosen, made = [ours("import", folder / "model", folder / "imported", "--force")], []
        for precision in precisions:
            source = folder / "imported"
            if precision == "float16":
                source = folder / "cast"
                chosen.append(ours("cast", folder / "imported", source, "--to", "float16", *examples, "--force"))
            frozen, serving = folder / f"frozen-{precision}", folder / f"serving-{precision}"
            chosen.append(ours("freeze", source, frozen, "--force"))
            chosen.append(ours("convert", frozen, serving, "--backend", "onnx", "--force"))
            made.append(serving)
        chosen.append(ours("evaluate", folder / "imported", *made, "--out", folder / "evaluation", *measured))
        ways = {
            "ours": [ours("optimize", folder / "model", folder / "best", *wanted, *measured, "--no-cache")],
            THEIRS: chosen,
        }
        samples = in_turns(ways, setting, lambda: clear(folder / "best"))
        work = f"a small model to the best of {' and '.join(precisions)}"
        found.append(Comparison(work, "on disk, cache warm", samples, (Goal(THEIRS, 0.5),)))
    return found
