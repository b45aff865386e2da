"""What follows for a comparison from where a converted model and its source part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import first_line
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.examples.probes.drawing import TYPICAL
from tpu2gpu.running.local.graph_session import GraphSession
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.trt_converter.early_answers import AnsweredReference
from tpu2gpu.trt_converter.feeds import EXAMPLE
from tpu2gpu.trt_converter.judge.onnx_tensors import OnnxTensors
from tpu2gpu.trt_converter.judge.parting import Parting, find_parting
from tpu2gpu.trt_converter.judge.steps import Steps

Figures = dict[str, dict[str, Any]]
Compare = Callable[[Mapping[str, Array], Mapping[str, Array]], Figures]

_MOST_BATCHES = 2  # that are off for good; the others are likely to be so for the same reason


@attrs.frozen(kw_only=True)
class Sides:
    """The two sides of a comparison.

    Attributes:
        source: The SavedModel's folder.
        signature: Which signature.
        trust: What the source may do besides computing.
        reference: The source, as it was run.
        onnx_path: The converted model.
        names: Its names of inputs and outputs.
        tolerance: The largest relative error that is none.
        compare: What compares outputs.
    """

    source: str
    signature: str
    trust: Sequence[str] = ()
    reference: AnsweredReference
    onnx_path: Path
    names: Mapping[str, Mapping[str, str]]
    tolerance: float
    compare: Compare


class Verdicts:
    """What is found out about batches whose outputs differ.

    Outputs that depend on decisions (a largest score, a threshold, a suppressed box) are compared by what they mean:
    where the scores agree, and the source decides as the converted model does once it is given those scores, the two
    agree. The same holds where rounding is made large on probes beyond the typical ones.

    Args:
        sides: The two sides.

    Attributes:
        findings: What was found, for people.
    """

    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._session: GraphSession | None = None
        self._unsettled = 0
        self.findings: list[str] = []

    def settle(self, kind: str, feeds: Mapping[str, Array], wanted: Mapping[str, Array], figures: Figures) -> Figures:
        """Return the figures of a batch, after a look at why they are large where they are.

        Args:
            kind: The batch's kind.
            feeds: The batch.
            wanted: The reference's outputs.
            figures: How far the converted model's are from them.
        """
        if not any(is_off(each, self._sides.tolerance) for each in figures.values()):
            return figures
        if self._unsettled >= _MOST_BATCHES:
            return figures
        own = self._own_figures(feeds, wanted)
        if (overflown := self._overflown(kind, own, figures)) is not None:
            return overflown
        try:
            parting = self._look_into(feeds)
        except Exception as error:  # either library may refuse to be looked into
            self._unsettled += 1
            self._note(f"on {kind} inputs: where the two part cannot be told ({first_line(error)})")
            return figures
        settled = self._settled(kind, parting)
        if settled is None:
            self._unsettled += 1
            self._note(f"on {kind} inputs {parting}")
            self._compare_sides(own, figures)
        return settled or figures

    def _look_into(self, feeds: Mapping[str, Array]) -> Parting:
        sides = self._sides
        self._session = self._session or GraphSession(sides.source, sides.signature, trust=sides.trust)
        steps = Steps(self._session, OnnxTensors(sides.onnx_path), sides.names, feeds, sides.tolerance)
        return find_parting(self._session, steps, sides.tolerance)

    def _settled(self, kind: str, parting: Parting) -> Figures | None:
        """Return the figures against what the source gives from the same decisions; None where they do not count."""
        decided = all(crossing.decides for crossing in parting.crossings)
        if parting.outputs is None or not parting.crossings or not (decided or kind not in (EXAMPLE, TYPICAL)):
            return None
        figures = self._sides.compare(parting.outputs, parting.found)
        if any(is_off(each, self._sides.tolerance) for each in figures.values()):
            return None
        at = ", ".join(str(crossing) for crossing in parting.crossings[:3])
        what = "decide otherwise" if decided else "make rounding large"
        self._note(f"on {kind} inputs the two {what} at {at}; given the same values there, they agree")
        return {name: {**each, "given_values_at": at} for name, each in figures.items()}

    def _own_figures(self, feeds: Mapping[str, Array], wanted: Mapping[str, Array]) -> Figures:
        """Return how far the source, in its own types, is from the reference; nothing where it is the reference."""
        sides = self._sides
        if not sides.reference.widened:
            return {}
        source = SavedModelRunner(sides.source, signature=sides.signature, trust=sides.trust)
        return sides.compare(wanted, source.run(feeds))

    def _overflown(self, kind: str, own: Figures, figures: Figures) -> Figures | None:
        """Return the figures of probes on which the source itself overflows in its types; None where it does not."""
        holed = [name for name, each in figures.items() if holes(each)]
        if kind in (EXAMPLE, TYPICAL) or not holed or not all(name in own and holes(own[name]) for name in holed):
            return None
        types = " and ".join(self._sides.reference.widened)
        self._note(f"on {kind} inputs the source itself gives NaN and Inf in {types}: {', '.join(holed)}")
        nothing = {"error": 0.0, "nan_count": 0, "inf_count": 0, "source_overflows": True}
        return {name: {**each, **(nothing if name in holed else {})} for name, each in figures.items()}

    def _compare_sides(self, own: Figures, figures: Figures) -> None:
        """Tell which side is further from the reference, where that is not the source itself."""
        for name, each in figures.items():
            if name in own and is_off(each, self._sides.tolerance):
                types = " and ".join(self._sides.reference.widened)
                self._note(
                    f"{name}, against the same weights in float32: the converted model {_text(each)}, "
                    f"TensorFlow in {types} {_text(own[name])}"
                )

    def _note(self, finding: str) -> None:
        if finding not in self.findings:
            self.findings.append(finding)


def is_off(figures: Mapping[str, Any], tolerance: float) -> bool:
    """Tell whether an output's figures are beyond the tolerance."""
    return bool(holes(figures)) or not figures["error"] <= tolerance


def holes(figures: Mapping[str, Any]) -> int:
    """Return how many elements are NaN or infinite where the reference is not."""
    return int(figures["nan_count"]) + int(figures["inf_count"])


def _text(figures: Mapping[str, Any]) -> str:
    return f"has {holes(figures)} NaN and Inf" if holes(figures) else f"is {figures['error']:.3g} off"
