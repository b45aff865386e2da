"""Requests that a converted model and its source are run on: real examples, or probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import ExamplesError, first_line
from tpu2gpu.running.arrays import Array, load_arrays, save_arrays
from tpu2gpu.running.examples.feeds import read_examples
from tpu2gpu.running.examples.probes.domain import Domain
from tpu2gpu.running.examples.probes.probes import Probes, make_probes
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.runner import Runner, TensorSpec

DEFAULT_EXAMPLES = 64
EXAMPLE = "example"
"""The kind of a batch of real examples; those of probes are `drawing.KINDS`."""

_SHOWN = 3
_FEEDS_FILE, _OUTPUTS_FILE = "feeds-{}.npz", "outputs-{}.npz"


@attrs.frozen
class Feeds:
    """Requests that both models are run on.

    Attributes:
        batches: Feeds of one request each.
        origin: Where they come from, for the report.
        kinds: For each request its kind; empty where all are `EXAMPLE`.
        probes: The probes that they are, None for real examples.
        left_out: The probes that the source does not run on, and why.
        not_exercised: The branches and operations that none of them reached.
        notes: How examples were read.
    """

    batches: tuple[dict[str, Array], ...] = attrs.field(repr=False)
    origin: str
    kinds: tuple[str, ...] = ()
    probes: Probes | None = attrs.field(default=None, repr=False)
    left_out: tuple[str, ...] = ()
    not_exercised: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def compared_on(self) -> str:
        """What was compared, for people: their origin, and what none of them reached."""
        shown = "; ".join(self.not_exercised[:_SHOWN])
        more = len(self.not_exercised) - _SHOWN
        missed = f"; not exercised: {shown}{f' and {more} more' if more > 0 else ''}" * bool(shown)
        return self.origin + missed

    def kind(self, position: int) -> str:
        """Return the kind of a request."""
        return self.kinds[position] if self.kinds else EXAMPLE

    def is_required(self, position: int) -> bool:
        """Tell whether a source that does not run on a request cannot be judged."""
        return self.probes is None or self.probes.batches[position].required

    def describe(self) -> dict[str, Any]:
        """Return what a report says of them."""
        told = {"origin": self.origin, "not_exercised": list(self.not_exercised)}
        if self.probes is None:
            return {**told, "example_notes": list(self.notes)}
        return {**told, **self.probes.describe(), "left_out": list(self.left_out)}


def feeds_for(
    inputs: Sequence[TensorSpec],
    *,
    sizes: Sequence[Mapping[str, Any]],
    examples: Sequence[str] = (),
    reading: Mapping[str, Any] | None = None,
    domains: Mapping[str, Domain] | None = None,
    limit: int = DEFAULT_EXAMPLES,
) -> Feeds:
    """Read real examples where there are files, and make probes elsewhere.

    Args:
        inputs: The model's inputs.
        sizes: What to make requests of, see `make_probes`. Real examples have their own shapes, and come in batches of
            the first profile.
        examples: Files of examples.
        reading: How examples are read, see `Reading.to_json`.
        domains: The values that the inputs are made for.
        limit: Read no more examples than this.

    Raises:
        ExamplesError: The examples do not fit the inputs.
    """
    if not examples:
        probes = make_probes(inputs, domains or {}, sizes=sizes)
        kinds = tuple(probe.kind for probe in probes.batches)
        return Feeds(tuple(probe.feeds for probe in probes.batches), probes.origin, kinds, probes)
    read = read_examples(examples, inputs, reading=Reading.from_json(reading), label=None, limit=limit)
    fixed = [spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] is not None]
    batches = fixed[:1] or sizes[0]["batches"]
    in_batches = [read.batch(start, batches[-1]) for start in range(0, read.count, batches[-1])]
    defaults = {spec.name: spec.default_array() for spec in inputs if spec.name not in read.feeds}
    found = [{**defaults, **batch} for batch in (read.batch(0, batches[0]), *in_batches)]
    return Feeds(tuple(found), f"{read.count} examples", notes=read.notes)


def run_reference(reference: Runner, feeds: Feeds) -> tuple[Feeds, list[dict[str, Array]]]:
    """Run the source on all requests, and leave out the probes that it does not run on.

    Returns:
        The requests that it ran on, and its outputs to each.

    Raises:
        ExamplesError: It does not run on an example, or on none of the typical probes.
    """
    kept: list[int] = []
    outputs: list[dict[str, Array]] = []
    left_out: list[str] = []
    failure: Exception | None = None
    for position, batch in enumerate(feeds.batches):
        try:
            outputs.append(reference.run(batch))
            kept.append(position)
        except Exception as error:  # TensorFlow raises whatever it likes
            reason = error.__cause__ if isinstance(error.__cause__, Exception) else error
            left_out.append(f"{feeds.kind(position)}: {first_line(reason)}")
            failure = failure or reason
            if feeds.probes is None:
                break
    if failure is not None and (feeds.probes is None or not any(feeds.is_required(position) for position in kept)):
        raise ExamplesError(
            f"the source does not run on {feeds.origin} ({first_line(failure)})",
            hint="give --examples of real data" if feeds.probes is not None else "give examples that fit the model",
        ) from failure
    if len(kept) == len(feeds.batches):
        return feeds, outputs
    assert feeds.probes is not None
    probes = attrs.evolve(feeds.probes, batches=tuple(feeds.probes.batches[position] for position in kept))
    batches = tuple(feeds.batches[position] for position in kept)
    kinds = tuple(feeds.kinds[position] for position in kept)
    return Feeds(batches, probes.origin, kinds, probes, tuple(left_out)), outputs


def save_reference(folder: Path, position: int, feeds: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    """Leave one request and the reference's outputs for other back ends to be compared with."""
    save_arrays(folder / _FEEDS_FILE.format(position), feeds)
    save_arrays(folder / _OUTPUTS_FILE.format(position), outputs)


def saved_feeds(folder: Path) -> Feeds:
    """Load the requests that `save_reference` left, in their order."""
    count = len(list(folder.glob(_FEEDS_FILE.format("*"))))
    batches = (load_arrays(folder / _FEEDS_FILE.format(position)) for position in range(count))
    return Feeds(tuple(batches), "what the part before gives")


def saved_outputs(folder: Path, position: int) -> dict[str, Array]:
    """Load the reference's outputs that `save_reference` left."""
    return load_arrays(folder / _OUTPUTS_FILE.format(position))
