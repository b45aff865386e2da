"""Measure what a cast does to a model's outputs, and find the smallest set of nodes to keep for a budget.

It runs in a child process: the model in float32, with what the cast would make narrow rounded region by region.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import ExamplesError, foreign_errors
from tpu2gpu.options import from_json
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.precision_caster.smallest_set import find_smallest, rank
from tpu2gpu.running.comparison.aligned_detections import align_detections
from tpu2gpu.running.comparison.detections import find_detections
from tpu2gpu.running.comparison.error_sketch import ErrorSketch, sketch_errors
from tpu2gpu.running.comparison.parity import OutputParity
from tpu2gpu.running.comparison.tolerances import TOLERANCES
from tpu2gpu.storage.unfinished import scratch

if TYPE_CHECKING:
    from tpu2gpu.graphs.passes.precision.regions import Region
    from tpu2gpu.precision_caster.simulation import Feeds, Range, Simulation
    from tpu2gpu.running.arrays import Array

_MOST_EXAMPLES, _BATCH = 64, 8
_UNKNOWN_SIZES = (32, 512, 4096, 16384)  # of made-up inputs: what crops its input gives nothing for small ones
_MOST_ELEMENTS = 1 << 20  # of an input of one example
_BOX_SCORE = 0.3  # boxes of smaller scores do not count, as in an evaluation
_TRIES = 16.0  # a budget is made no smaller than by this; then all that contributes stays


@attrs.frozen
class Batches:
    """What a model is run on.

    Attributes:
        feeds: The batches.
        required: For each whether the model must run on it; others are left out where it does not.
        origin: Where they come from, for people.
        details: What the report says of them beside.
    """

    feeds: tuple[Feeds, ...]
    required: tuple[bool, ...]
    origin: str
    details: dict[str, Any] = attrs.field(factory=dict)


def default_budget(precision: str, *, examples: bool) -> float:
    """Return the largest error that a cast may make where `--max-relative-error` says nothing.

    On real examples it is what the evaluator allows; on made-up ones, where sums cancel, what a conversion may have.
    """
    allowed = TOLERANCES[precision]
    return allowed.budget if examples else max(allowed.budget, allowed.conversion)


def measure(source: str, options: str, unfit: Mapping[str, str]) -> dict[str, Any]:
    """Measure a cast, and search what must stay float32 for the budget; the function of the child process.

    Args:
        source: The SavedModel.
        options: The cast's options, as JSON.
        unfit: Weights that stay, with the reason.

    Returns:
        `error`, `budget`, `origin`, what else the report says, and `kept`: the nodes to keep, each with the reason.

    Raises:
        UsageError: An option names an input that the model has not.
        ExamplesError: The examples cannot feed the model, or it does not run on them.
        UnsupportedError: The model cannot be run.
    """
    return _Measurement(source, from_json(CastOptions, options), unfit).run()


class _Measurement:
    def __init__(self, source: str, options: CastOptions, unfit: Mapping[str, str]) -> None:
        from tpu2gpu.graphs.formats.saved_model import read_saved_model
        from tpu2gpu.graphs.model import DEFAULT_SIGNATURE
        from tpu2gpu.graphs.ops import DT_BFLOAT16, DT_HALF
        from tpu2gpu.graphs.passes.precision.narrow import bypass_identities
        from tpu2gpu.graphs.passes.precision.retype import Narrowing
        from tpu2gpu.graphs.passes.precision.selection import Selection
        from tpu2gpu.graphs.passes.precision.widen import Widen
        from tpu2gpu.graphs.shapes.inference import summed_counts
        from tpu2gpu.precision_caster.policy import SUMS
        from tpu2gpu.tensorbundle.format import DTYPE_ENUMS

        self._options, self._unfit = options, unfit
        self._dtype = DTYPE_ENUMS[options.precision]
        model = read_saved_model(source)
        self._signature = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in model.signatures else next(iter(model.signatures))
        model.keep_signatures([self._signature])
        Widen({DT_HALF, DT_BFLOAT16}, keep_signature=not options.cast_signature).run(model)
        bypass_identities(model)
        self._counts = summed_counts(model, SUMS)
        Selection(model.nodes, model, self._dtype, self._policy({}), Narrowing(), {}, clamp=False)  # bodies of its own
        self._model = model

    def _policy(self, measured: Mapping[str, str]) -> Any:
        from tpu2gpu.precision_caster.policy import policy_of

        return policy_of(self._options, self._unfit, measured)

    def _regions(self, measured: Mapping[str, str]) -> list[Region]:
        from tpu2gpu.graphs.passes.precision.regions import find_regions

        return find_regions(
            self._model,
            self._dtype,
            self._policy(measured),
            self._counts,
            cast_signature=self._options.cast_signature,
        )

    def run(self) -> dict[str, Any]:
        from tpu2gpu.precision_caster.simulation import Simulation

        regions = self._regions({})
        given = self._options.max_relative_error
        examples = bool(self._options.examples)
        budget = default_budget(self._options.precision, examples=examples) if given is None else given
        if not regions:
            return {"error": 0.0, "budget": budget, "origin": "", "kept": {}, "outputs": {}, "regions": []}
        with scratch() as folder:
            simulation = Simulation(
                self._model,
                self._signature,
                regions,
                self._dtype,
                self._policy({}),
                folder,
                clamp=self._options.clamp,
            )
            try:
                judge = self._judge(simulation)
                return {"budget": budget, **self._search(simulation, regions, judge, budget, thorough=examples)}
            finally:
                simulation.close()

    def _search(
        self, simulation: Simulation, regions: Sequence[Region], judge: _Judge, budget: float, *, thorough: bool
    ) -> dict[str, Any]:
        batches = judge.batches
        everything = frozenset(range(len(regions)))
        kept: frozenset[int] = frozenset()
        contributions: dict[int, float] = {}
        looked_at: list[int] = []
        parity, reasons, allowed = judge.parity(everything), dict[str, str](), budget
        before = worst_of(parity)
        while not worst_of(parity) <= budget:
            hard = judge.hardest(everything - kept)
            if hard in looked_at:
                allowed /= 2  # on all batches together it is more than on those
            looked_at = [*dict.fromkeys([*looked_at, hard])]

            def error(narrow: Collection[int], numbers: Sequence[int] = tuple(looked_at)) -> float:
                return judge.error(narrow, numbers)

            smallest = find_smallest(len(regions), error, allowed if allowed > budget / _TRIES else 0.0)
            kept, contributions = smallest.kept, smallest.contributions
            reasons = dict(self._reasons(regions, kept, contributions, budget))
            parity = judge.parity(self._narrow_of(regions, reasons))
        if thorough and not contributions:
            contributions = rank(len(regions), lambda narrow: judge.error(narrow, [0]), 0.0)
        ranges = simulation.ranges(judge.feeds) if thorough or contributions else {}
        return {
            "error": worst_of(parity),
            "error_before": _number(before),
            "origin": batches.origin,
            **batches.details,
            "not_measured": judge.empty,
            "outputs": {
                name: {
                    "relative_error": it.relative_error,
                    "mean_abs_error": it.mean_abs_error,
                    "top1_agreement": it.top1_agreement,
                }
                for name, it in parity.items()
            },
            "kept": reasons,
            "regions": [
                _describe(region, ranges.get(number), contributions.get(number), kept=number in kept)
                for number, region in enumerate(regions)
            ],
        }

    def _reasons(
        self, regions: Sequence[Region], kept: Collection[int], contributions: Mapping[int, float], budget: float
    ) -> Iterator[tuple[str, str]]:
        for number in sorted(kept):
            reason = (
                f"measured: in {self._options.precision} its region ({regions[number].op}) alone moves the outputs by "
                f"{contributions[number]:.2g}, the budget is {budget:g}"
            )
            yield from ((name, reason) for name in regions[number].nodes)

    def _narrow_of(self, regions: Sequence[Region], reasons: Mapping[str, str]) -> frozenset[int]:
        """Return the regions that are narrow when nodes are kept, by the policy itself."""
        left = {(region.function, name) for region in self._regions(reasons) for name in region.nodes}
        return frozenset(
            number for number, region in enumerate(regions) if {(region.function, it) for it in region.nodes} & left
        )

    def _judge(self, simulation: Simulation) -> _Judge:
        """Return a judge with batches for which the model gives something; made-up ones grow until it does.

        Raises:
            ExamplesError: It gives nothing for any, or does not run on them.
        """
        judge = _Judge(simulation, self._batches(_UNKNOWN_SIZES[0]))
        for size in self._sizes() if judge.is_idle else ():
            judge = _Judge(simulation, self._batches(size))
            if not judge.is_idle:
                return judge
        if judge.is_idle:
            raise ExamplesError(
                f"the model gives nothing for {judge.batches.origin}: every output is empty, and nothing measured",
                details=[f"output {name}" for name in judge.empty],
                hint="give --examples for which it gives something",
            )
        return judge

    def _sizes(self) -> Iterator[int]:
        """Yield larger sizes for the unknown dimensions of made-up inputs."""
        from tpu2gpu.running.examples.probes.probes import input_specs

        shapes = [spec.shape[1:] for spec in input_specs(self._model, self._signature)]
        if self._options.examples or not any(None in shape for shape in shapes):
            return
        for size in _UNKNOWN_SIZES[1:]:
            if all(math.prod(size if it is None else it for it in shape) <= _MOST_ELEMENTS for shape in shapes):
                yield size

    def _batches(self, unknown_size: int) -> Batches:
        from tpu2gpu.running.examples.feeds import read_examples
        from tpu2gpu.running.examples.probes.drawing import EDGES, SIGNED, STRUCTURED
        from tpu2gpu.running.examples.probes.find_domains import find_domains
        from tpu2gpu.running.examples.probes.probes import input_specs, make_probes

        specs = input_specs(self._model, self._signature)
        if self._options.examples:
            reading = self._options.reading()
            read = read_examples(self._options.examples, specs, reading=reading, label=None, limit=_MOST_EXAMPLES)
            fixed = [spec.shape[0] for spec in specs if spec.shape and spec.shape[0] is not None]
            size = fixed[0] if fixed else min(_BATCH, read.count)
            feeds = tuple(read.batch(start, size) for start in range(0, read.count, size))
            return Batches(feeds, (True,) * len(feeds), f"{read.count} examples", {"example_notes": list(read.notes)})
        probes = make_probes(
            specs,
            find_domains(self._model, self._signature),
            sizes=[{"batches": [1, 4], "shapes": {}}],
            kinds=(SIGNED, EDGES, STRUCTURED),
            unknown_size=unknown_size,
        )
        return Batches(
            tuple(probe.feeds for probe in probes.batches),
            tuple(probe.required for probe in probes.batches),
            f"{probes.origin}, since no examples were given",
            {"probes": probes.describe()},
        )


class _Judge:
    """The errors of a simulation's outputs against float32's, relative to the largest value of all batches."""

    def __init__(self, simulation: Simulation, batches: Batches) -> None:
        self._simulation, self.batches = simulation, batches
        self.feeds: list[Feeds] = []
        self._wanted: list[dict[str, Array]] = []
        what = f"the model does not run on {batches.origin}"
        for feeds, required in zip(batches.feeds, batches.required, strict=True):
            try:
                with foreign_errors(ExamplesError, what, hint="give --examples"):
                    self._wanted.append(simulation.run(feeds, ()))
                self.feeds.append(feeds)
            except ExamplesError:
                if required:
                    raise
        self._detections = find_detections(self._wanted[0], {}) if self._wanted else None
        self._scales = {name: it.max_abs_reference for name, it in self._sum(self._sketches(())).items()}

    @property
    def empty(self) -> list[str]:
        """Outputs that are empty for all batches."""
        return [name for name in self._wanted[0] if not any(it[name].size for it in self._wanted)]

    @property
    def is_idle(self) -> bool:
        """Whether there are outputs, and all are empty for all batches."""
        return bool(self._wanted[0]) and len(self.empty) == len(self._wanted[0])

    def parity(self, narrow: Collection[int]) -> dict[str, OutputParity]:
        """Return the errors over all batches with some regions narrow."""
        return {name: OutputParity.of(it) for name, it in self._sum(self._sketches(narrow)).items()}

    def error(self, narrow: Collection[int], numbers: Sequence[int]) -> float:
        """Return the largest relative error of some batches with some regions narrow."""
        return max(self._worst(number, narrow) for number in numbers)

    def hardest(self, narrow: Collection[int]) -> int:
        """Return the number of the batch with the largest error."""
        return max(range(len(self.feeds)), key=lambda number: self._worst(number, narrow))

    def _worst(self, number: int, narrow: Collection[int]) -> float:
        sketches = self._sketch(number, narrow)
        scaled = {name: attrs.evolve(it, max_abs_reference=self._scales[name]) for name, it in sketches.items()}
        return worst_of({name: OutputParity.of(it) for name, it in scaled.items()})

    def _sketches(self, narrow: Collection[int]) -> list[dict[str, ErrorSketch]]:
        return [self._sketch(number, narrow) for number in range(len(self.feeds))]

    def _sketch(self, number: int, narrow: Collection[int]) -> dict[str, ErrorSketch]:
        wanted = self._wanted[number]
        found = self._simulation.run(self.feeds[number], narrow) if narrow else wanted
        if self._detections is not None and found is not wanted:
            found = align_detections(wanted, found, self._detections, _BOX_SCORE)
        return {name: sketch_errors(it, found[name]) for name, it in wanted.items()}

    @staticmethod
    def _sum(sketches: Sequence[Mapping[str, ErrorSketch]]) -> dict[str, ErrorSketch]:
        return {name: sum((it[name] for it in sketches), ErrorSketch()) for name in sketches[0]} if sketches else {}


def worst_of(parity: Mapping[str, OutputParity]) -> float:
    """Return the largest relative error of all outputs."""
    return max((it.relative_error for it in parity.values()), default=0.0)


def _describe(region: Region, values: Range | None, contribution: float | None, *, kept: bool) -> dict[str, Any]:
    return {
        "node": region.nodes[0],
        "op": region.op,
        "nodes": len(region.nodes),
        "function": region.function,
        "kept": kept,
        "error_alone": None if contribution is None else _number(contribution),
        **({} if values is None else {name: _number(it) for name, it in attrs.asdict(values).items()}),
    }


def _number(value: float) -> float | str:
    """Make a number that JSON can hold: infinities by name."""
    return value if math.isfinite(value) else str(value)
