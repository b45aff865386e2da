"""Does the converted model answer as TensorFlow does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import ExamplesError, ParityRefusedError
from tpu2gpu.running.arrays import Array, is_float, load_arrays, numpy_dtype, save_arrays
from tpu2gpu.running.comparison.parity import OutputParity, compare
from tpu2gpu.running.examples.feeds import read_examples
from tpu2gpu.running.runner import Runner, TensorSpec

UNKNOWN_SIZE = 32  # what an unknown dimension is taken to be when nothing tells
DEFAULT_EXAMPLES = 64
_SEED = 0

TOLERANCES = {"float32": 2e-3, "float16": 3e-2, "int8": 0.25}
"""The relative error that a precision may have, for lack of `--tolerance`.

Both sides compute in the same precision, but add and round in another order. float32: 3e-6 was seen on inputs like
those of training, up to 1.4e-3 on random ones far from them. float16: 1.7e-2 was the most (ResNet-50 in float16
against float32), since ONNX Runtime's CPU computes in float32 inside operations. int8: 0.16 was seen on ResNet-50 with
random calibration data; this only keeps out what is broken, the LatencyEvaluator measures what the accuracy suffers.
Source: measured on ResNet-50, EfficientNet-B0, MobileNetV3 and BERT; TensorFlow 2.16, ONNX Runtime 1.23.
"""


@attrs.frozen
class Feeds:
    """What both models are run on.

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
    """Real examples where there are files, synthetic inputs elsewhere.

    Args:
        inputs: The model's inputs.
        sizes: What to make requests of, once for each profile: `batches`, the sizes to run where the batch is not
            fixed; `shapes`, for inputs with unknown dimensions beside the batch a shape to use. Real examples have
            their own shapes, and come in batches of the first profile.
        examples: Files of examples.
        features: The examples' feature for an input of another name.
        limit: Read no more examples than this.
        image_decode_op: The operation by which the model decodes image files; its strings are synthetic images then.

    Raises:
        ExamplesError: The examples do not fit the inputs.
    """
    fixed = [spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] is not None]
    if not examples:
        origin = f"synthetic inputs (seed {_SEED}: numbers in [0, 1), integers 0 and 1)"
        text = _image_file(image_decode_op) if image_decode_op else b"0"
        synthetic = [
            _synthetic(inputs, batch, each["shapes"], text) for each in sizes for batch in fixed[:1] or each["batches"]
        ]
        return Feeds(tuple(synthetic), origin)
    read = read_examples(examples, inputs, features=features or {}, label=None, limit=limit)
    batches = fixed[:1] or sizes[0]["batches"]
    in_batches = [read.batch(start, batches[-1]) for start in range(0, read.count, batches[-1])]
    return Feeds((read.batch(0, batches[0]), *in_batches), f"{read.count} examples")


def prove(
    reference: Runner, candidate: Runner, names: Mapping[str, Mapping[str, str]], feeds: Feeds, folder: Path
) -> dict[str, Any]:
    """Run both models and compare them.

    Args:
        reference: The source.
        candidate: The converted model.
        names: The candidate's names of inputs and outputs.
        feeds: What to run them on.
        folder: Where to leave feeds and the reference's answers, for other back ends to be compared with.

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
        save_proof(folder, position, batch, wanted)
        results.append(compare_with(wanted, candidate, names, batch))
        size = len(next(iter(batch.values()))) if batched else 0
        batched = batched and all(array.ndim and len(array) == size for array in wanted.values())
    return {"parity": worst_of(results), "compared_on": feeds.origin, "batched": batched}


def run_reference(reference: Runner, batch: Mapping[str, Array], origin: str) -> dict[str, Array]:
    """Run the source.

    Raises:
        ExamplesError: It does not run on the feeds.
    """
    try:
        return reference.run(batch)
    except Exception as error:  # TensorFlow raises errors of every kind
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExamplesError(
            f"the source does not run on {origin} ({reason})", hint="give --examples of real data"
        ) from error


def save_proof(folder: Path, position: int, feeds: Mapping[str, Array], answers: Mapping[str, Array]) -> None:
    """Leave one request and the reference's answer for other back ends to be compared with."""
    save_arrays(folder / f"feeds-{position}.npz", feeds)
    save_arrays(folder / f"answers-{position}.npz", answers)


def saved_feeds(folder: Path) -> Feeds:
    """The requests that `save_proof` left."""
    files = sorted(folder.glob("feeds-*.npz"), key=lambda file: int(file.stem.partition("-")[2]))
    return Feeds(tuple(load_arrays(file) for file in files), "what the part before gives")


def prove_again(candidate: Runner, names: Mapping[str, Mapping[str, str]], folder: Path) -> dict[str, Any]:
    """Compare another back end with the answers that `prove` left."""
    results = []
    for file in sorted(folder.glob("feeds-*.npz")):
        wanted = load_arrays(file.with_name(file.name.replace("feeds", "answers")))
        results.append(compare_with(wanted, candidate, names, load_arrays(file)))
    return {"parity": worst_of(results)}


def compare_with(
    wanted: Mapping[str, Array], candidate: Runner, names: Mapping[str, Mapping[str, str]], batch: Mapping[str, Array]
) -> dict[str, dict[str, Any]]:
    """Run a candidate on one batch and compare it with the reference's answers.

    Returns:
        For each output what `compare` says, and for outputs that are no floating-point numbers `unequal_share`.
    """
    found = candidate.run({names["inputs"][name]: array for name, array in batch.items()})
    answers = {name: found[names["outputs"][name]] for name in wanted}
    return compare_answers(wanted, answers)


def compare_answers(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
    """Compare answers; see `compare_with`."""
    return {name: _figures(parity, wanted[name], found[name]) for name, parity in compare(wanted, found).items()}


def worst_of(results: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Of several comparisons, for each output the worst."""
    return {
        name: dict(max((result[name] for result in results), key=lambda figures: float(figures["error"])))
        for name in results[0]
    }


def check_parity(parity: Mapping[str, Mapping[str, Any]], tolerance: float, what: str) -> float:
    """Refuse answers that differ by more than the tolerance.

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
            f"{what} answers differently from the source, by more than {tolerance:g} of the largest value",
            details=wrong,
            hint="compare on real data with --examples, or allow more with --tolerance",
        )
    return max(float(figures["error"]) for figures in parity.values())


def _holes(figures: Mapping[str, Any]) -> int:
    return int(figures["nan_count"]) + int(figures["inf_count"])


def _figures(parity: OutputParity, wanted: Array, found: Array) -> dict[str, Any]:
    """The error of numbers is relative to the largest; that of classes, strings and truths the share that differs."""
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
        feeds[spec.name] = _random(rng, spec.dtype, sizes, text)
    return feeds


def _random(rng: np.random.Generator, dtype: str, shape: Sequence[int], text: bytes) -> Array:
    if dtype == "string":
        return np.full(shape, text, object)
    wanted = numpy_dtype(dtype)
    if is_float(wanted):
        return np.asarray(rng.random(shape), wanted)
    return np.asarray(rng.integers(0, 2, shape), wanted)


def _image_file(operation: str) -> bytes:
    """A synthetic image file, in the form that an operation decodes."""
    import tensorflow as tf

    pixels = np.random.default_rng(_SEED).integers(0, 256, (UNKNOWN_SIZE, UNKNOWN_SIZE, 3), np.uint8)
    encode = tf.io.encode_png if operation == "DecodePng" else tf.io.encode_jpeg
    return bytes(encode(pixels).numpy())
