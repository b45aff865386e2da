"""The comparison of outputs as a Beam pipeline, for more examples than one machine wants to hold.

A work item is a chunk of one file's examples. A worker holds the reference and the candidates, each in a process of its
own, so that what crashes or hangs is a finding and not the end of the worker; from a chunk it makes one small record
for each model, and those records add up, in any order. Nothing is timed here: workers share their machines.

Models and examples must lie where every worker sees them under the same path, and so must the folder for the results.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import apache_beam as beam
import attrs

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.hardware.host import choose_cpus
from tpu2gpu.latency_evaluator.accuracy.agreement import Agreement, ReferenceOutputs
from tpu2gpu.latency_evaluator.budgets.budgets import Budgets
from tpu2gpu.latency_evaluator.measure.model_process import ModelProcess
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.latency_evaluator.results import REFERENCE
from tpu2gpu.options import from_json, to_json
from tpu2gpu.running.arrays import Array, save_arrays
from tpu2gpu.running.examples.box_labels import box_features
from tpu2gpu.running.examples.feeds import Examples, parse_examples
from tpu2gpu.running.examples.forms.registry import ExampleFile, find_examples
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.storage.unfinished import scratch
from tpu2gpu.tfx.beam import check_complete, read_results, run_on_beam, write_result

CHUNK_EXAMPLES = 512
_ERROR = ".error.json"
_RESULT = ".agreement.json"


@attrs.frozen
class Chunk:
    """Some consecutive examples of one file.

    Attributes:
        file: The file.
        first: Number of the first one in the file.
        count: How many.
        number: Number of the first one among the examples of all files.
    """

    file: str
    first: int
    count: int
    number: int


@attrs.frozen
class Comparison:
    """The comparison as plain data, for every worker.

    Attributes:
        reference: The model held to be right.
        candidates: For each label the model in question.
        options: The evaluation's options but for its budgets, as JSON.
        folder: Where results and errors are written.
    """

    reference: str
    candidates: tuple[tuple[str, str], ...]
    options: str
    folder: str


class CompareChunk(beam.DoFn):
    """Runs all models on a chunk, and gives for each its label and the agreement of its outputs."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._models: _Models | None = None

    def process(self, element: Chunk) -> Iterator[tuple[str, Agreement]]:
        """Run and compare; what goes wrong with reference or examples is written down for the caller."""
        try:
            self._models = self._models or _Models(self._comparison)
            found = self._models.compare(element)
        except Tpu2GpuError as error:  # it would fail on every worker: nothing is won by trying again
            write_result(Path(self._comparison.folder) / f"{uuid.uuid4().hex}{_ERROR}", error)
            return
        yield from found.items()

    def teardown(self) -> None:
        """End the models' processes."""
        if self._models is not None:
            self._models.close()
            self._models = None


class MergeAgreements(beam.CombineFn):
    """Adds up the agreements of the chunks."""

    def create_accumulator(self) -> Agreement:
        """Start with nothing compared."""
        return Agreement()

    def add_input(self, mutable_accumulator: Agreement, element: Agreement) -> Agreement:
        """Add one more chunk."""
        return mutable_accumulator + element

    def merge_accumulators(self, accumulators: Iterable[Agreement]) -> Agreement:
        """Add up those of several workers."""
        return sum(accumulators, start=Agreement())

    def extract_output(self, accumulator: Agreement) -> Agreement:
        """Return the sum."""
        return accumulator


def compare_on_beam(
    reference: str, candidates: Mapping[str, str], files: Sequence[str], options: EvaluateOptions, folder: Path
) -> dict[str, Agreement]:
    """Compare candidates with a reference on all examples, on a Beam runner.

    Args:
        reference: The model held to be right.
        candidates: For each label the model in question.
        files: TFRecord files of tf.Examples: paths, globs or folders.
        options: How to compare, and on which runner.
        folder: An empty folder for the workers' results.

    Returns:
        For the reference and each candidate, by label, how its outputs agree.

    Raises:
        RemoteRunError: The runner failed, or left results out.
        SourceError: The reference does not run.
        ExamplesError: The examples are missing, damaged or do not fit the reference.
    """
    paths = {label: str(Path(path).absolute()) for label, path in candidates.items()}
    told = Comparison(
        str(Path(reference).absolute()), tuple(paths.items()), _without_budgets(options), str(folder.absolute())
    )
    found = [str(file.path.absolute()) for file in find_examples(files)]

    def build(pipeline: beam.Pipeline) -> None:
        counts = (
            pipeline
            | "Files" >> beam.Create(list(enumerate(found)), reshuffle=False)
            | "SpreadFiles" >> beam.Reshuffle()
            | "Count" >> beam.Map(_count, told.folder, options.reading())
        )
        _ = (
            pipeline
            | "Once" >> beam.Create([None])
            | "Chunks" >> beam.FlatMap(_chunks, beam.pvalue.AsList(counts))
            | "SpreadChunks" >> beam.Reshuffle()
            | "Compare" >> beam.ParDo(CompareChunk(told))
            | "Merge" >> beam.CombinePerKey(MergeAgreements())
            | "Write" >> beam.Map(_write_result, told.folder)
        )

    run_on_beam(build, str(options.runner), options.beam)
    return _collect(folder, [REFERENCE, *candidates])


def _without_budgets(options: EvaluateOptions) -> str:
    """Write down what a comparison needs: no budget, which may be declared where no worker finds it."""
    budgets = {field.name for field in attrs.fields(Budgets)}
    needed = [field.name for field in attrs.fields(EvaluateOptions) if field.name not in budgets]
    return to_json(EvaluateOptions(**{name: getattr(options, name) for name in needed}))


class _Models:
    """The models in their processes, on one worker."""

    def __init__(self, comparison: Comparison) -> None:
        self._options = from_json(EvaluateOptions, comparison.options)
        self._stack = ExitStack()
        self._scratch = self._stack.enter_context(scratch())
        timeout_s = self._options.timeout_s
        self._reference = ModelProcess(comparison.reference, REFERENCE, is_reference=True, timeout_s=timeout_s)
        self._candidates = [
            ModelProcess(path, label, is_reference=False, timeout_s=timeout_s) for label, path in comparison.candidates
        ]
        try:
            for model in (self._reference, *self._candidates):
                model.load(
                    self._options.signature,
                    self._options.threads or 1,
                    choose_cpus(self._options.cpus),
                    self._options.trust,
                    unverified=self._options.unverified,
                )
        except Tpu2GpuError:
            self.close()
            raise

    def compare(self, chunk: Chunk) -> dict[str, Agreement]:
        """Compare the outputs to a chunk, the reference's own with the labels only."""
        reading = self._options.reading()
        rows = itertools.islice(ExampleFile.of(Path(chunk.file)).rows(reading, chunk.first), chunk.count)
        boxes = box_features(self._options.label_boxes, self._options.label_classes, self._options.label_box_units)
        examples = parse_examples(rows, self._reference.inputs, reading=reading, label=self._options.label, boxes=boxes)
        feeds = self._scratch / "feeds.npz"
        save_arrays(feeds, examples.feeds)
        reference = ReferenceOutputs(
            self._predict(self._reference, feeds, examples) or {},
            examples.labels,
            self._options,
            examples.feeds,
            ground_truth_boxes=examples.boxes,
            first_example=chunk.number,
        )
        found = {REFERENCE: reference.own()}
        for model in self._candidates:
            outputs = self._predict(model, feeds, examples)
            failed = Agreement(failure=model.failure)
            found[model.label] = failed if outputs is None else reference.compare(outputs)
        return found

    def close(self) -> None:
        """End the models' processes."""
        for model in (self._reference, *self._candidates):
            model.close()
        self._stack.close()

    def _predict(self, model: ModelProcess, feeds: Path, examples: Examples) -> dict[str, Array] | None:
        model.ask("reading the examples", "take_examples", path=str(feeds))
        if not model.runs:
            return None
        return model.predict(examples.count, self._options.batch_size, self._scratch)


def _count(numbered: tuple[int, str], folder: str, reading: Reading) -> tuple[int, str, int]:
    number, file = numbered
    try:
        return number, file, sum(1 for _ in ExampleFile.of(Path(file)).rows(reading))
    except Tpu2GpuError as error:
        write_result(Path(folder) / f"{uuid.uuid4().hex}{_ERROR}", error)
        return number, file, 0


def _chunks(_: None, counts: Iterable[tuple[int, str, int]]) -> Iterator[Chunk]:
    before = 0
    for _number, file, count in sorted(counts):
        for first in range(0, count, CHUNK_EXAMPLES):
            yield Chunk(file, first, min(CHUNK_EXAMPLES, count - first), before + first)
        before += count


def _write_result(labelled: tuple[str, Agreement], folder: str) -> None:
    label, agreement = labelled
    write_result(Path(folder) / f"{label.replace(' ', '-')}{_RESULT}", {"label": label, "found": agreement.to_json()})


def _collect(folder: Path, labels: Sequence[str]) -> dict[str, Agreement]:
    read_results(sorted(folder.glob(f"*{_ERROR}")))  # raises the first of them
    results = read_results(folder.glob(f"*{_RESULT}"))
    found = {result["label"]: Agreement.from_json(result["found"]) for result in results}
    check_complete(labels, found, "candidates' results", "models, examples and output")
    return {label: found[label] for label in labels}
