"""Options of an evaluation."""

from __future__ import annotations

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.graphs.trust.trust_option import trust_option
from tpu2gpu.latency_evaluator.budgets.budgets import Budgets
from tpu2gpu.options import KnownNames, as_mapping, did_you_mean, flag, option
from tpu2gpu.running.examples.reading import ExampleOptions

BOX_UNITS = ("same", "fractions")
BOX_FORMATS = ("xyxy", "xywh", "cxcywh")
_PARTS = ("boxes", "scores", "classes", "count")


@attrs.frozen(kw_only=True, slots=False)
class OutputOptions(KnownNames):
    """Options for reading and comparing outputs."""

    label: str | None = option("label", "the feature with the class id", metavar="FEATURE")
    scores: tuple[str, ...] = option(
        (),
        "the output with class scores whose best classes must agree; the first is held against the labels (default: "
        "all, but with labels the one by which the reference is most often right)",
        metavar="OUTPUT",
    )
    label_boxes: str | None = option(
        None,
        "the feature with an example's ground-truth boxes, or four with commas between (default: "
        "image/object/bbox/ymin, xmin, ymax and xmax, where detectors are compared)",
        metavar="FEATURES",
    )
    label_classes: str | None = option(
        None,
        "the feature with the classes of the ground-truth boxes (default: image/object/class/label)",
        metavar="FEATURE",
    )
    label_box_units: str = option(
        "same",
        "what ground-truth boxes count in: the same as the detector's, or fractions of the image's size where the "
        "detector's are in pixels of it; features image/height and image/width tell the size",
        choices=BOX_UNITS,
    )
    detections: tuple[str, ...] = option(
        (),
        "the output with a detector's boxes, scores, classes or count, where names and shapes do not tell",
        metavar="PART=OUTPUT",
    )
    box_format: str = option(
        "xyxy", "how boxes are written: two corners, a corner and the size, or the center and it", choices=BOX_FORMATS
    )
    box_score: float = option(0.3, "boxes of a smaller score do not count in the matching", minimum=0)
    different_examples: int = option(
        10, "so many different examples are needed to prove anything; --allow-degenerate takes fewer", minimum=1
    )
    runner: str | None = option(
        None,
        "compare the outputs to all examples on this Beam runner; --max-examples then limits those that are timed",
        metavar="BEAM_RUNNER",
    )
    beam: tuple[str, ...] = option(
        (), "argument for the Beam runner, such as --beam=--parallelism=4", metavar="ARGUMENT"
    )

    def __attrs_post_init__(self) -> None:
        """Check what belongs together.

        Raises:
            UsageError: Beam arguments without a runner, or a part that detections do not have.
        """
        if self.beam and not self.runner:
            raise UsageError("--beam without --runner", hint="name the Beam runner too")
        for part in self.named_detections():
            if part not in _PARTS:
                raise UsageError(
                    f"{flag('detections')} {part}: not one of {', '.join(_PARTS)}", hint=did_you_mean(part, _PARTS)
                )

    def named_detections(self) -> dict[str, str]:
        """Return `detections` as a mapping.

        Raises:
            UsageError: One is not PART=OUTPUT.
        """
        return as_mapping("detections", self.detections, "PART=OUTPUT")


@attrs.frozen(kw_only=True)
class EvaluateOptions(Budgets, OutputOptions, ExampleOptions):
    """The measurements to make, and the budgets."""

    requests: int = option(1000, "requests to time with each model, one at a time", minimum=1)
    max_requests: int | None = option(
        None, "go on up to so many while the last windows differ by over 10 % (default: 3 times as many)", minimum=1
    )
    batch_size: int = option(1, "examples in a request", minimum=1)
    scenario: tuple[str, ...] = option(
        ("single_stream",),
        "measure too: server (Poisson arrivals), offline (all requests at once); single_stream always is",
        choices=("single_stream", "server", "offline"),
    )
    target_qps: float | None = option(
        None,
        "requests per second of the server scenario (default: half of what the slowest model serves one by one)",
        minimum=0.001,
    )
    batch_sizes: tuple[int, ...] = option(
        (), "also measure this batch size; the largest is that of the offline scenario", minimum=1
    )
    warm_up_requests: int = option(60, "the fewest requests before timing starts", minimum=1)
    block_requests: int = option(20, "requests to one model before the next model's turn", minimum=1)
    threads: int | None = option(None, "threads for each model on the CPU (default: one for each core)", minimum=1)
    cpus: str | None = option(None, "the CPU cores that models may use, such as 0-3,8 (default: all)", metavar="CORES")
    seed: int = option(0, "for the order of the models and the bootstrap", minimum=0)
    signature: str = option("serving_default", "which signature of a SavedModel", metavar="NAME")
    max_examples: int | None = option(None, "read no more examples than this", minimum=1)
    synthetic: int | None = option(
        None, "generate so many requests in place of --examples: times only, outputs to them prove little", minimum=1
    )
    trust: tuple[str, ...] = trust_option()
    unverified: bool = option(
        False, "load models also where their files are not those that their manifests list; the report says so"
    )
    timeout_s: float = option(600.0, "for loading a model, and for a block of its requests", minimum=0)

    def __attrs_post_init__(self) -> None:
        """Check what belongs together.

        Raises:
            UsageError: Something contradicts another, or has another form.
        """
        OutputOptions.__attrs_post_init__(self)
        ExampleOptions.__attrs_post_init__(self)
