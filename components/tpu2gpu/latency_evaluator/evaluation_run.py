"""One evaluation run: open all models, compare their outputs, time them, judge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.errors import SourceError, UsageError
from tpu2gpu.hardware.cuda import gpu_memory_bytes
from tpu2gpu.hardware.host import CpuWatch, choose_cpus, momentary_state, stable_hardware
from tpu2gpu.latency_evaluator.accuracy.agreement import Agreement, ReferenceOutputs
from tpu2gpu.latency_evaluator.accuracy.detection_samples import DetectionSample, DetectionSampler
from tpu2gpu.latency_evaluator.budgets.degenerate import weak_outputs
from tpu2gpu.latency_evaluator.budgets.judge import judge, judged_speed, passed
from tpu2gpu.latency_evaluator.budgets.latency_budgets import gated_percentile
from tpu2gpu.latency_evaluator.budgets.measurements import Measurements
from tpu2gpu.latency_evaluator.budgets.verification_level import reached_level
from tpu2gpu.latency_evaluator.evaluation import Evaluation
from tpu2gpu.latency_evaluator.measure.load import Load, first_call_ms, warm_up
from tpu2gpu.latency_evaluator.measure.model_process import ModelProcess
from tpu2gpu.latency_evaluator.measure.timing import time_scenarios
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.latency_evaluator.results import INCUMBENT, REFERENCE, CandidateResult, ModelFigures
from tpu2gpu.latency_evaluator.statistics.intervals import Estimate, regression, relative_iqr, speedup
from tpu2gpu.progress import Progress
from tpu2gpu.running.arrays import Array, save_arrays
from tpu2gpu.running.comparison.signatures import differing_specs
from tpu2gpu.running.comparison.tolerances import default_budget
from tpu2gpu.running.examples.box_labels import box_features
from tpu2gpu.running.examples.feeds import Examples, read_examples
from tpu2gpu.running.examples.probes.find_domains import domains_of
from tpu2gpu.running.examples.synthetic import make_examples
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.storage.unfinished import scratch

_LIMIT_OF_REQUESTS = 3  # times those asked for, while the windows still differ
_TIMED_EXAMPLES = 1000  # of those that are compared on Beam, unless an option says otherwise


def compare_models(
    reference: str,
    incumbent: str | None,
    candidates: Sequence[str],
    examples: Sequence[str],
    options: EvaluateOptions,
    progress: Progress,
    beside: Path,
) -> Evaluation:
    """Run the whole evaluation; see `evaluate_model`. Beam's workers leave their results in the folder `beside`."""
    before = momentary_state()
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(scratch())
        labels = ["candidate" if len(candidates) == 1 else f"candidate {i + 1}" for i in range(len(candidates))]
        named = [] if incumbent is None else [(incumbent, INCUMBENT)]
        named += zip(candidates, labels, strict=True)
        models = [ModelProcess(reference, REFERENCE, is_reference=True, timeout_s=options.timeout_s)]
        models += [ModelProcess(path, label, is_reference=False, timeout_s=options.timeout_s) for path, label in named]
        for model in models:
            stack.callback(model.close)
        run = EvaluationRun(models, examples, options, progress, temporary)
        run.open_models()
        run.predict()
        if options.runner:
            run.compare_on_beam(stack.enter_context(scratch(beside)))
        watch = CpuWatch([model.process for model in models if model.runs and model.process])
        run.time_models()
        return run.conclude(before, watch.others_busy_cores())


class EvaluationRun:
    """The steps of one evaluation, in order."""

    def __init__(
        self,
        models: list[ModelProcess],
        examples: Sequence[str],
        options: EvaluateOptions,
        progress: Progress,
        scratch: Path,
    ) -> None:
        self._models, self._reference = models, models[0]
        self._files, self._options, self._progress, self._scratch = examples, options, progress, scratch
        self._cpus = choose_cpus(options.cpus)
        self._threads = options.threads or len(self._cpus)
        self._load = Load(
            requests=options.requests,
            max_requests=max(options.max_requests or _LIMIT_OF_REQUESTS * options.requests, options.requests),
            block_requests=min(options.block_requests, options.requests),
            batch_size=options.batch_size,
            warm_up_requests=options.warm_up_requests,
            percentile=gated_percentile(options)[0],
            seed=options.seed,
        )
        self._differences: dict[str, list[str]] = {model.label: [] for model in models}
        self._figures: dict[str, dict[str, Any]] = {model.label: {} for model in models}
        self._agreements: dict[str, Agreement] = {}
        self._samples: tuple[DetectionSample, ...] = ()
        self._judged = False  # whether outputs are compared with the reference's in float32

    def open_models(self) -> None:
        """Load all models and give them the examples, read by the reference's inputs."""
        for number, model in enumerate(self._models):
            self._progress(f"loading the {model.label}", number, len(self._models))
            model.load(
                self._options.signature,
                self._threads,
                self._cpus,
                self._options.trust,
                unverified=self._options.unverified,
            )
            if model is self._reference:
                self._examples = self._read_examples()
            elif model.runs:
                self._differences[model.label] = differing_specs("input", self._reference.inputs, model.inputs)
        feeds = self._scratch / "feeds.npz"
        save_arrays(feeds, self._examples.feeds)
        for model in self._asked():
            model.ask("reading the examples", "take_examples", path=str(feeds))

    def predict(self) -> None:
        """Time the first call, then compute all outputs and compare the candidates' with the reference's."""
        reference: ReferenceOutputs | None = None
        sampler = DetectionSampler(self._examples.feeds, self._examples.boxes, self._options)
        for number, model in enumerate(asked := self._asked()):
            self._progress(f"comparing the {model.label}", number, len(asked))
            self._figures[model.label]["first_call_ms"] = first_call_ms(model, self._load)
            if self._options.runner:
                continue
            outputs = model.predict(self._examples.count, self._load.batch_size, self._scratch)
            if outputs is None:
                continue
            if reference is None:  # the reference is the first
                labels, boxes = self._examples.labels, self._examples.boxes
                reference = ReferenceOutputs(
                    outputs, labels, self._options, self._examples.feeds, ground_truth_boxes=boxes
                )
                self._note(model, reference.own())
                sampler.note(model.label, outputs)
            else:
                agreement = reference.compare(outputs)
                if not self._judged and self._is_off(model, agreement) and (judged := self._predict_in_float32()):
                    reference, self._judged = judged, True
                    agreement = reference.compare(outputs)
                self._note(model, agreement)
                sampler.note(model.label, outputs, agreement.boxes.worst_example if agreement.boxes else None)
        self._samples = sampler.samples()

    def _is_off(self, model: ModelProcess, agreement: Agreement) -> bool:
        """Tell whether a candidate's outputs are beyond what its type allows, or what `--max-relative-error` does."""
        worst = max((parity.relative_error for parity in agreement.parity.values()), default=0.0)
        dtypes = (each.ask("reading its dtype", "dtype") or "float32" for each in (self._reference, model))
        limit = self._options.max_relative_error
        return worst > (default_budget(*dtypes)[0] if limit is None else limit)

    def _predict_in_float32(self) -> ReferenceOutputs | None:
        """Compute the reference's outputs once more, in float32 without oneDNN; None where its kind has no weights.

        TensorFlow's own float16, and oneDNN's fusions, may be further from the truth than a sound candidate.
        """
        if not SavedModelRunner.detect(self._reference.given):
            return None
        options, timeout_s = self._options, self._options.timeout_s
        judge = ModelProcess(
            self._reference.given, "reference in float32", is_reference=False, timeout_s=timeout_s, judges=True
        )
        try:
            judge.load(options.signature, self._threads, self._cpus, options.trust, unverified=options.unverified)
            judge.ask("reading the examples", "take_examples", path=str(self._scratch / "feeds.npz"))
            outputs = judge.predict(self._examples.count, self._load.batch_size, self._scratch) if judge.runs else None
        finally:
            judge.close()
        if outputs is None:
            return None
        return ReferenceOutputs(outputs, self._examples.labels, options, ground_truth_boxes=self._examples.boxes)

    def compare_on_beam(self, shared: Path) -> None:
        """Compare the outputs to all examples on a Beam runner, whose workers leave their results in `shared`."""
        from tpu2gpu.latency_evaluator.accuracy.on_beam import compare_on_beam

        self._progress(f"comparing on {self._options.runner}", 0, 1)
        asked = {model.label: model for model in self._asked()}
        paths = {label: model.given for label, model in asked.items() if model is not self._reference}
        found = {REFERENCE: Agreement()}
        if paths:
            found = compare_on_beam(self._reference.given, paths, self._files, self._options, shared)
        for label, agreement in found.items():
            self._note(asked[label], agreement)

    def _note(self, model: ModelProcess, agreement: Agreement) -> None:
        if agreement.failure is not None:
            model.close()
            model.failure = agreement.failure
            return
        self._agreements[model.label] = agreement
        self._differences[model.label] += agreement.differences
        right, precision = agreement.right, agreement.average_precision
        self._figures[model.label] |= {"accuracy": right.accuracy, "top5_accuracy": right.top5_accuracy}
        if precision is not None:
            self._figures[model.label]["mean_average_precision"] = precision.mean_average_precision

    def time_models(self) -> None:
        """Warm all models up, then time them."""
        for model in (asked := self._asked()):
            self._progress(f"warming up the {model.label}", 0, 1)
            self._figures[model.label]["warm_up"] = warm_up(model, self._load)
        self._timed = time_scenarios(asked, self._load, self._options, self._progress)

    def conclude(self, before: dict[str, Any], others_busy_cores: float) -> Evaluation:
        """Turn what was measured into figures and verdicts."""
        after = momentary_state()
        figures = {model.label: self._figures_of(model) for model in self._models}
        candidates = [model for model in self._models if model.label not in (REFERENCE, INCUMBENT)]
        return Evaluation(
            reference=figures[REFERENCE],
            incumbent=None if self._no_incumbent else figures[INCUMBENT],
            no_incumbent=self._no_incumbent,
            candidates=tuple(self._judge(model, figures) for model in candidates),
            examples=self._examples.count,
            example_notes=self._examples.notes,
            labelled=not (self._examples.labels is None and self._examples.boxes is None),
            latency_ns=self._timed.single_stream.latency_ns,
            orders=self._timed.single_stream.orders,
            scenario_ns=self._timed.other_latencies(),
            load=self._load,
            threads=self._threads,
            cpus=self._cpus,
            hardware=stable_hardware(),
            before=before,
            after=after,
            others_busy_cores=others_busy_cores,
            non_finite_reference=self._agreements[REFERENCE].non_finite,
            remarks=tuple(self._remarks()),
            detection_samples=self._samples,
        )

    @property
    def _no_incumbent(self) -> str:
        """Why there is no incumbent to compare with; empty where there is one."""
        for model in self._models:
            if model.label != INCUMBENT:
                continue
            if model.failure is not None:
                return f"the incumbent {model.name} does not run any more ({model.failure})"
            if differences := self._differences[INCUMBENT]:
                return f"the incumbent {model.name} has another signature ({'; '.join(differences)})"
            return ""
        return "there is no incumbent"

    def _remarks(self) -> Iterator[str]:
        for model in self._models:
            if model.unverified:
                yield f"Unverified: the {model.label} was loaded though its files are not those of its manifest."
        if self._options.synthetic:
            yield (
                f"SYNTHETIC: the {self._options.synthetic} requests are generated. Times may depend on values, and "
                "agreement on random inputs says little about real ones: give real examples before promoting anything."
            )
        if weak := weak_outputs(self._agreements[REFERENCE].variety):
            yield (
                f"Output {', '.join(weak)} is largest at the same place in all examples: if these are scores of "
                "classes, its top-1 agreement proves nothing (--scores names such outputs)."
            )
        if any(model.label == INCUMBENT for model in self._models) and (why := self._no_incumbent):
            yield f"Nothing is held against the incumbent: {why}."
        if self._judged:
            yield (
                "Outputs are compared with those of the reference's weights in float32, without oneDNN: as it is "
                "timed, it differs from a candidate by more than the limit."
            )

    def _asked(self) -> list[ModelProcess]:
        """Return the models that run and take the examples."""
        refused = {label for label, found in self._differences.items() if any(one.startswith("input") for one in found)}
        return [model for model in self._models if model.runs and model.label not in refused]

    def _read_examples(self) -> Examples:
        inputs = self._reference.inputs
        if not inputs:
            raise SourceError("the reference takes no input", hint="--signature names another signature")
        fixed = {spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] is not None}
        asked = {self._options.batch_size, *self._options.batch_sizes}
        if len(fixed) > 1:
            raise SourceError(
                f"the reference's inputs have first dimensions of {' and '.join(map(str, sorted(fixed)))}: no batch",
                hint="export a signature whose inputs all have the batch first",
            )
        if fixed and fixed != asked:
            wrong = ", ".join(map(str, sorted(asked - fixed)))
            raise UsageError(
                f"--batch-size {wrong}: the reference takes batches of {min(fixed)} only",
                hint=f"give --batch-size {min(fixed)}",
            )
        if self._options.synthetic:
            source, signature = self._reference.given, self._options.signature
            domains = domains_of(source, signature) if SavedModelRunner.detect(source) else {}
            return make_examples(inputs, self._options.synthetic, self._options.seed, domains)
        self._progress("reading the examples", 0, 1)
        return read_examples(
            self._files,
            inputs,
            reading=self._options.reading(),
            label=self._options.label,
            boxes=box_features(self._options.label_boxes, self._options.label_classes, self._options.label_box_units),
            limit=self._options.max_examples or (_TIMED_EXAMPLES if self._options.runner else None),
        )

    def _figures_of(self, model: ModelProcess) -> ModelFigures:
        peak_rss_bytes = model.peak_rss_bytes  # before the dtype is looked up, which reads the model once more
        timed: dict[str, Any] = {}
        if scenarios := self._timed.scenarios(model.label):
            single = scenarios["single_stream"]
            timed = {
                "latency_ms": single.latency_ms,
                "requests": single.requests,
                "throughput_per_s": single.throughput_per_s,
                "relative_iqr": relative_iqr(self._timed.single_stream.latency_ns[model.label]),
                "scenarios": scenarios,
                "batch_sweep": self._timed.batch_sweep(model.label),
            }
        return ModelFigures(
            label=model.label,
            name=model.name,
            digest=model.digest(),
            dtype=model.ask("reading its dtype", "dtype"),
            runner=model.description.get("runner", {}),
            load_s=model.description.get("load_s"),
            peak_rss_bytes=peak_rss_bytes,
            gpu_memory_bytes=gpu_memory_bytes(model.ask("telling its processes", "processes") or ()),
            model_bytes=model.model_bytes(),
            folder_bytes=model.folder_bytes(),
            partition=model.partition(),
            **self._figures[model.label],
            **timed,
        )

    def _judge(self, model: ModelProcess, figures: Mapping[str, ModelFigures]) -> CandidateResult:
        found, reference = figures[model.label], figures[REFERENCE]
        agreement = self._agreements.get(model.label, Agreement())
        latency_ns = self._timed.single_stream.latency_ns.get(model.label)
        ratios = self._ratios(REFERENCE, latency_ns)
        over_incumbent = {} if self._no_incumbent else self._ratios(INCUMBENT, latency_ns)
        regressed = regression(over_incumbent["p50"]) if "p50" in over_incumbent else None
        level, level_reason = reached_level(
            model.description.get("runner", {}), has_engine=model.has_engine, ran=latency_ns is not None
        )
        checks = judge(
            self._options,
            Measurements(
                failure=model.failure,
                differences=self._differences[model.label],
                examples=agreement.examples,
                parity=agreement.parity,
                boxes=agreement.boxes,
                box_outputs=agreement.box_outputs,
                example_variety=self._agreements[REFERENCE].examples_variety,
                reference_variety=self._agreements[REFERENCE].variety,
                candidate_variety=agreement.variety,
                reference=reference,
                candidate=found,
                latency_ms=self._timed.latency_ms(model.label),
                batch_sizes={name: one.batch_size for name, one in found.scenarios.items()},
                speedup=ratios.get("p50"),
                incumbent=None if self._no_incumbent else figures[INCUMBENT],
                no_incumbent=self._no_incumbent,
                regression=regressed,
                level=level,
                level_reason=level_reason,
            ),
        )
        return CandidateResult(
            figures=found,
            compared=agreement.examples,
            parity=agreement.parity,
            boxes=agreement.boxes,
            box_outputs=agreement.box_outputs,
            speedup=ratios,
            regression=regressed,
            checks=checks,
            speed=judged_speed(self._options, checks),
            verified_level=level,
            level_reason=level_reason,
            infra_blessed=passed(checks, "infra"),
            model_blessed=passed(checks, "model"),
        )

    def _ratios(self, label: str, latency_ns: Array | None) -> dict[str, Estimate]:
        """Estimate how many times as long as a candidate another model takes."""
        if latency_ns is None:
            return {}
        other = self._timed.single_stream.latency_ns[label]
        found = {
            f"p{percentile:g}": speedup(other, latency_ns, percentile, seed=self._options.seed)
            for percentile in (50.0, 99.0)
        }
        return {name: ratio for name, ratio in found.items() if ratio is not None}
