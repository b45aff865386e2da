"""`optimize_model`: from a trained model to the best serving model that its budgets bless."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import EnvironmentLacksError, ExamplesError, SignatureError, Tpu2GpuError, UsageError
from tpu2gpu.optimizer.cache import StepCache, user_cache
from tpu2gpu.optimizer.candidates import Candidate, choose_candidates
from tpu2gpu.optimizer.options import OptimizeOptions
from tpu2gpu.optimizer.results import CandidateOutcome, Figures, OptimizeResult
from tpu2gpu.options import flag
from tpu2gpu.progress import Progress, silent
from tpu2gpu.reporting.report import to_html, to_markdown
from tpu2gpu.running.examples.python_examples import ExamplesLike, as_files, is_nothing
from tpu2gpu.storage.publishing import REPORT, check_free, describe_source, name_of, plain, publish_step
from tpu2gpu.storage.unfinished import scratch

SERVING = "serving"
_OF_ALL = (EnvironmentLacksError, SignatureError, UsageError)
"""Errors that say nothing of a candidate where all have them."""


def optimize_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    examples: ExamplesLike = (),
    options: OptimizeOptions | None = None,
    *,
    incumbent: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    use_cache: bool = True,
    keep_intermediates: str | os.PathLike[str] | None = None,
    force: bool = False,
    run_name: str = "",
    progress: Progress | None = None,
) -> OptimizeResult:
    """Make the best serving model of a trained one: import, cast, freeze, convert, evaluate.

    Each precision is tried with each back end that applies. All candidates are measured in one run against the imported
    model, and the fastest that passes every budget is kept. A step whose source, options and code are those of a former
    run is taken from the cache, a refusal too.

    Args:
        source: What `import_model` takes.
        target: The folder to write: `serving`, the best candidate's serving folder, where one is blessed;
            `evaluation`, what `evaluate_model` writes; report.html, report.md and report.json.
        examples: Files of real examples: paths, globs or folders; or arrays by name, or an iterable of examples, such
            as a tf.data.Dataset; none where the options ask for synthetic ones.
        options: The candidates, what steps are told, and the budgets.
        incumbent: What is promoted now, on which no candidate may fall behind.
        cache: The folder of former outputs; that of the user when not given.
        use_cache: Take and keep former outputs.
        keep_intermediates: A folder to write what each step made.
        force: Replace existing outputs.
        run_name: The run that this belongs to, for the manifest.
        progress: Told what is being done.

    Returns:
        The best candidate, and what became of all; `blessed` tells whether there is one.

    Raises:
        UsageError: An option does not fit, or a folder exists.
        ExamplesError: The examples are missing, damaged or do not fit the model.
        EnvironmentLacksError: A back end that was asked for cannot be used here.
        Tpu2GpuError: The source cannot be imported, see `import_model`; or no candidate can be what was asked.
    """
    options = options or OptimizeOptions()
    progress = progress or silent
    if is_nothing(examples) != bool(options.synthetic):
        raise UsageError(
            f"{flag('examples')} and {flag('synthetic')}: one of them is needed, and only one",
            hint="give real examples wherever there are some",
        )
    kept = [] if keep_intermediates is None else [Path(keep_intermediates)]
    if any(folder.absolute() == Path(target).absolute() for folder in kept):
        raise UsageError(f"{target}: given for the target and for the intermediates", hint="choose another folder")
    for folder in (Path(target), *kept):
        check_free(folder, force=force)
    choice = choose_candidates(options.precision, options.backend, has_examples=not is_nothing(examples))
    options.check_heeded(choice.candidates)
    with as_files(examples, options.max_examples) as files, _cache(cache, use_cache=use_cache) as folder:
        from tpu2gpu.optimizer.chain import EVALUATION, Chain

        store = StepCache(folder, lasts=use_cache)
        chain = Chain(source, files, incumbent, options, store, progress)
        imported = chain.import_()
        converted, failed = _convert_all(chain, imported, choice.candidates)
        evaluation = chain.evaluate(imported, list(converted.values())) if converted else None
        found = {} if evaluation is None else json.loads((evaluation / REPORT).read_text(encoding="utf-8"))
        outcomes = _outcomes(choice.candidates, failed, list(converted), found)
        best = next((outcome.name for outcome in outcomes if outcome.verdict == "kept"), "")
        result = OptimizeResult(
            target=Path(target),
            blessed=bool(best),
            best=best,
            serving=chain.outputs[best] if best else None,
            evaluation=evaluation,
            reference=Figures.of_model(found["reference"]) if found else Figures(),
            candidates=outcomes,
            not_tried=choice.not_tried,
            steps=tuple(chain.steps),
            warnings=tuple(found["warnings"]) if found else (),
        )
        about = describe_source(source)
        for each in kept:
            with publish_step("optimize", about, each, options, force=force, run_name=run_name) as staging:
                _copy(chain.outputs, staging.folder)
                staging.report = {"outputs": sorted(chain.outputs)}
        with publish_step("optimize", about, target, options, force=force, run_name=run_name) as staging:
            from tpu2gpu.optimizer.page import make_page

            page = make_page(result, name_of(source) or Path(source).resolve().name)
            (staging.folder / "report.html").write_text(to_html(page), encoding="utf-8")
            (staging.folder / "report.md").write_text(to_markdown(page), encoding="utf-8")
            places = {SERVING: result.serving, EVALUATION: evaluation}
            there = {name: path for name, path in places.items() if path is not None}
            _copy(there, staging.folder)
            moved = {name: Path(target) / name if name in there else None for name in places}
            result = attrs.evolve(result, serving=moved[SERVING], evaluation=moved[EVALUATION])
            staging.report = plain(result)
        store.remove_old()
    return result


def _convert_all(
    chain: Any, imported: Path, candidates: Sequence[Candidate]
) -> tuple[dict[str, Path], dict[str, Tpu2GpuError]]:
    """Convert every candidate that can be; return the serving folders, and the errors of the others.

    Raises:
        ExamplesError: The examples do not fit the model.
        Tpu2GpuError: All failed by what was asked, which is the same for all.
    """
    converted: dict[str, Path] = {}
    failed: dict[str, Tpu2GpuError] = {}
    for candidate in candidates:
        try:
            frozen = chain.freeze(imported, candidate.precision)
            converted[candidate.name] = chain.convert(frozen, candidate)
        except ExamplesError:
            raise
        except Tpu2GpuError as error:
            failed[candidate.name] = error
    if not converted and all(isinstance(error, _OF_ALL) for error in failed.values()):
        raise next(iter(failed.values()))
    return converted, failed


def _outcomes(
    candidates: Sequence[Candidate],
    failed: Mapping[str, Tpu2GpuError],
    judged: Sequence[str],
    report: Mapping[str, Any],
) -> tuple[CandidateOutcome, ...]:
    """Tell what became of each candidate.

    Args:
        candidates: All.
        failed: The errors of those that were not evaluated.
        judged: The others, in the order of the evaluation.
        report: Of the evaluation.
    """
    records = dict(zip(judged, report.get("candidates", ()), strict=True))
    kept = report["verdict"]["candidate_digest"] if records and report["verdict"]["blessed"] else None
    made = []
    for name in (candidate.name for candidate in candidates):
        if name in failed:
            error = failed[name]
            made.append(CandidateOutcome(name=name, verdict="failed", reasons=(error.message, *error.details[:5])))
            continue
        record = records[name]
        is_kept = record["blessed"] and record["figures"]["digest"] == kept
        made.append(
            CandidateOutcome(
                name=name,
                verdict="kept" if is_kept else "blessed" if record["blessed"] else "refused",
                reasons=tuple(record["reasons"]),
                remarks=tuple(record["remarks"]),
                figures=Figures.of_candidate(record),
            )
        )
    return tuple(made)


def _copy(outputs: Mapping[str, Path], folder: Path) -> None:
    for name, path in outputs.items():
        shutil.copytree(path, folder / name, symlinks=True)


@contextmanager
def _cache(folder: str | os.PathLike[str] | None, *, use_cache: bool) -> Iterator[Path]:
    """Give the folder of former outputs; one that goes when the block ends, where none is to be used."""
    if use_cache:
        yield user_cache() if folder is None else Path(folder).absolute()
        return
    with scratch() as made:
        yield made
