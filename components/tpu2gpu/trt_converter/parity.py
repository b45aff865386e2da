"""Comparison of a converted model's outputs with TensorFlow's, on real examples or synthetic inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import ExamplesError, ParityRefusedError, foreign_errors
from tpu2gpu.running.arrays import Array, is_float, load_arrays, save_arrays
from tpu2gpu.running.comparison.parity import OutputParity, compare
from tpu2gpu.running.examples.feeds import read_examples
from tpu2gpu.running.examples.synthetic import DISTRIBUTION, synthetic_array
from tpu2gpu.running.runner import Runner, TensorSpec

UNKNOWN_SIZE = 32  # what an unknown dimension is taken to be when nothing tells
DEFAULT_EXAMPLES = 64
_SEED = 0
_FEEDS_FILE, _OUTPUTS_FILE = "feeds-{}.npz", "outputs-{}.npz"


@attrs.frozen
class Feeds:
    """Requests that both models are run on.

    Attributes:
        batches: Feeds of one request each.
        origin: Where they come from, for the report.
    """

    batches: tuple[dict[str, Array], ...] = attrs.field(repr=False)
    origin: str


def feeds_for(
    inputs: Sequence[TensorSpec],
    *,
    sizes: Sequence[Mapping[str, Any]],
    examples: Sequence[str] = (),
    features: Mapping[str, str] | None = None,
    image_decode_op: str = "",
    limit: int = DEFAULT_EXAMPLES,
) -> Feeds:
    """Read real examples where there are files, and make synthetic inputs elsewhere.

    Args:
        inputs: The model's inputs.
        sizes: What to make requests of, once for each profile: `batches`, the sizes to run where the batch is not
            fixed; `shapes`, for inputs with unknown dimensions beside the batch a shape to use. Real examples have
            their own shapes, and come in batches of the first profile.
        examples: Files of examples.
        features: The examples' feature for an input of another name.
        limit: Read no more examples than this.
        image_decode_op: The op by which the model decodes image files; its strings are synthetic images then.

    Raises:
        ExamplesError: The examples do not fit the inputs.
    """
    fixed = [spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] is not None]
    if not examples:
        text = _image_file(image_decode_op) if image_decode_op else b"0"
        synthetic = [
            _synthetic(inputs, batch, each["shapes"], text) for each in sizes for batch in fixed[:1] or each["batches"]
        ]
        return Feeds(tuple(synthetic), f"synthetic inputs (seed {_SEED}: {DISTRIBUTION})")
    read = read_examples(examples, inputs, features=features or {}, label=None, limit=limit)
    batches = fixed[:1] or sizes[0]["batches"]
    in_batches = [read.batch(start, batches[-1]) for start in range(0, read.count, batches[-1])]
    return Feeds((read.batch(0, batches[0]), *in_batches), f"{read.count} examples")


def compare_models(
    reference: Runner, candidate: Runner, names: Mapping[str, Mapping[str, str]], feeds: Feeds, folder: Path
) -> dict[str, Any]:
    """Run both models and compare them.

    Args:
        reference: The source.
        candidate: The converted model.
        names: The candidate's names of inputs and outputs.
        feeds: What to run them on.
        folder: Where to leave feeds and the reference's outputs, for other back ends to be compared with.

    Returns:
        `parity` for each output, at its worst; `compared_on`; and `batched`, whether the first dimension of every
        input and output is the batch.

    Raises:
        ExamplesError: The source itself does not run on the feeds.
        ParityRefusedError: Outputs differ in name, shape or type.
    """
    results = []
    batched = all(spec.shape and spec.shape[0] is None for spec in reference.inputs)
    for position, batch in enumerate(feeds.batches):
        wanted = run_reference(reference, batch, feeds.origin)
        save_reference(folder, position, batch, wanted)
        results.append(_compare_batch(wanted, candidate, names, batch))
        size = len(next(iter(batch.values()))) if batched else 0
        batched = batched and all(array.ndim and len(array) == size for array in wanted.values())
    return {"parity": worst_of(results), "compared_on": feeds.origin, "batched": batched}


def run_reference(reference: Runner, batch: Mapping[str, Array], origin: str) -> dict[str, Array]:
    """Run the source.

    Raises:
        ExamplesError: It does not run on the feeds.
    """
    with foreign_errors(ExamplesError, f"the source does not run on {origin}", hint="give --examples of real data"):
        return reference.run(batch)


def save_reference(folder: Path, position: int, feeds: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    """Leave one request and the reference's outputs for other back ends to be compared with."""
    save_arrays(folder / _FEEDS_FILE.format(position), feeds)
    save_arrays(folder / _OUTPUTS_FILE.format(position), outputs)


def saved_feeds(folder: Path) -> Feeds:
    """Load the requests that `save_reference` left, in their order."""
    count = len(list(folder.glob(_FEEDS_FILE.format("*"))))
    batches = (load_arrays(folder / _FEEDS_FILE.format(position)) for position in range(count))
    return Feeds(tuple(batches), "what the part before gives")


def compare_saved(candidate: Runner, names: Mapping[str, Mapping[str, str]], folder: Path) -> dict[str, Any]:
    """Compare a model with the reference outputs that `compare_models` left."""
    results = []
    for position, batch in enumerate(saved_feeds(folder).batches):
        wanted = load_arrays(folder / _OUTPUTS_FILE.format(position))
        results.append(_compare_batch(wanted, candidate, names, batch))
    return {"parity": worst_of(results)}


def _compare_batch(
    wanted: Mapping[str, Array], candidate: Runner, names: Mapping[str, Mapping[str, str]], batch: Mapping[str, Array]
) -> dict[str, dict[str, Any]]:
    """Run a candidate on one batch and compare it with the reference's outputs."""
    found = candidate.run({names["inputs"][name]: array for name, array in batch.items()})
    return compare_outputs(wanted, {name: found[names["outputs"][name]] for name in wanted})


def compare_outputs(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
    """Compare outputs with the reference's.

    Returns:
        For each output what `compare` says, its `error`, and for outputs of no floating-point type `unequal_share`.
    """
    return {name: _figures(parity, wanted[name], found[name]) for name, parity in compare(wanted, found).items()}


def worst_of(results: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the worst of several comparisons, for each output."""
    return {
        name: dict(max((result[name] for result in results), key=lambda figures: float(figures["error"])))
        for name in results[0]
    }


def check_parity(parity: Mapping[str, Mapping[str, Any]], tolerance: float, what: str) -> float:
    """Refuse outputs that differ by more than the tolerance.

    Returns:
        The largest error.

    Raises:
        ParityRefusedError: An output differs by more; all such outputs are listed.
    """
    wrong = [
        f"{name}: {figures['error']:.3g} at example {figures['worst_example']}, element {figures['worst_element']}"
        + (f", {figures['nan_count']} NaN and {figures['inf_count']} Inf" * bool(_holes(figures)))
        for name, figures in parity.items()
        if _holes(figures) or not figures["error"] <= tolerance
    ]
    if wrong:
        raise ParityRefusedError(
            f"the outputs of {what} differ from the source's by more than {tolerance:g} of the largest value",
            details=wrong,
            hint="compare on real data with --examples, or allow more with --tolerance",
        )
    return max(float(figures["error"]) for figures in parity.values())


def _holes(figures: Mapping[str, Any]) -> int:
    return int(figures["nan_count"]) + int(figures["inf_count"])


def _figures(parity: OutputParity, wanted: Array, found: Array) -> dict[str, Any]:
    """Return the figures of one output; errors of floats are relative to the largest, others the share that differs."""
    figures = attrs.asdict(parity)
    if is_float(wanted.dtype):
        return {**figures, "error": parity.relative_error}
    unequal = float(np.mean(wanted != found)) if wanted.size else 0.0
    return {**figures, "error": unequal, "unequal_share": unequal}


def _synthetic(
    inputs: Sequence[TensorSpec], batch: int, shapes: Mapping[str, Sequence[int]], text: bytes
) -> dict[str, Array]:
    rng = np.random.default_rng(_SEED)
    feeds = {}
    for spec in inputs:
        known = shapes.get(spec.name)
        sizes = [size or (known[place] if known else UNKNOWN_SIZE) for place, size in enumerate(spec.shape)]
        if spec.shape and spec.shape[0] is None:
            sizes[0] = batch
        is_string = spec.dtype == "string"
        feeds[spec.name] = np.full(sizes, text, object) if is_string else synthetic_array(rng, spec.dtype, sizes)
    return feeds


def _image_file(op: str) -> bytes:
    """Make a synthetic image file, in the format that an op decodes."""
    import tensorflow as tf

    pixels = np.random.default_rng(_SEED).integers(0, 256, (UNKNOWN_SIZE, UNKNOWN_SIZE, 3), np.uint8)
    encode = tf.io.encode_png if op == "DecodePng" else tf.io.encode_jpeg
    return bytes(encode(pixels).numpy())
