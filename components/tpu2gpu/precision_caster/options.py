"""Options and result of `cast_model` and `cast_checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.graphs.trust.trust_option import trust_option
from tpu2gpu.options import flag, option
from tpu2gpu.precision_caster.rules import PRESETS
from tpu2gpu.running.examples.reading import ExampleOptions

_LONGEST = 400  # longer expressions stand in the report alone

PRECISIONS = ("float32", "float16", "bfloat16", "float64")


@attrs.frozen(kw_only=True)
class CastOptions(ExampleOptions):
    """The options of a cast.

    Attributes:
        to: The precision to compute and store weights in; that of the preset when not given, else float16.
        preset: A whole policy by name.
        rule: `REGEX=TYPE` or `REGEX=keep` for names of weights and nodes; the first that finds something decides.
        keep: Nodes, variables and tensors that keep their precision, by regular expression; looked at before `rule`.
        keep_op: Ops that keep float32.
        allow_nothing: Write the model even where nothing of it was cast.
        slots: Cast an optimizer's slots too; otherwise they stay as they are.
        on_overflow: What to do with tensors whose values the precision cannot hold.
        examples: Files of examples on which the outputs are measured; made-up inputs when not given.
        max_relative_error: The largest error of an output that the cast may make; more nodes stay float32 for it.
        measure: Measure the outputs, and keep what the budget needs; otherwise what the graph tells decides alone.
        cast_signature: Cast the inputs and outputs too; otherwise they stay as they are.
        trust: What the model may do besides computing.
        statistics: Gather all statistics of what the cast does; otherwise extremes and overflows only.
        threads: How many threads cast weights; as many as there are cores when not given.
        shard_mib: Size of the data files that the weights are written to, in MiB; a tensor is never cut.
        runner: Cast weights on this Beam runner instead of in this process.
        beam: Arguments for the Beam runner.
    """

    to: str | None = option(None, "precision to compute and store weights in  [default: float16]", choices=PRECISIONS)
    preset: str | None = option(None, "a whole policy by name", choices=PRESETS)
    rule: tuple[str, ...] = option(
        (), "give weights that the expression finds this type, or keep theirs", metavar="REGEX=TYPE|keep"
    )
    keep: tuple[str, ...] = option((), "keep what this regular expression finds in names", metavar="REGEX")
    keep_op: tuple[str, ...] = option((), "keep this op in float32", metavar="OP")
    allow_nothing: bool = option(False, "write the model even where nothing of it was cast")
    slots: bool = option(False, "cast an optimizer's slots too")
    on_overflow: str = option("refuse", "what to do with tensors that do not fit", choices=("refuse", "keep", "clamp"))
    examples: tuple[str, ...] = option(
        (),
        "examples to measure the outputs on, files in any form, at most 64 of them; inputs derived from the graph when "
        "not given",
        metavar="FILES",
    )
    max_relative_error: float | None = option(
        None,
        "largest difference of an output from float32's, relative to its largest value; the smallest set of nodes that "
        "it takes stays float32; when not given 0.02 for float16 (0.03 without examples) and 0.1 for bfloat16",
        minimum=0,
    )
    measure: bool = option(
        True, "run the model, in float32 and with what the cast rounds, and keep what the outputs need"
    )
    cast_signature: bool = option(False, "cast the signature's inputs and outputs too")
    trust: tuple[str, ...] = trust_option()
    statistics: bool = option(True, "gather all statistics of what the cast does, not only extremes and overflows")
    threads: int | None = option(None, "threads that cast weights  [default: all cores]", minimum=1, recorded=False)
    shard_mib: int = option(256, "size of the data files of weights, in MiB", minimum=1)
    runner: str | None = option(None, "cast weights on this Beam runner", metavar="BEAM_RUNNER", recorded=False)
    beam: tuple[str, ...] = option(
        (), "argument for the Beam runner, such as --beam=--parallelism=4", metavar="ARGUMENT", recorded=False
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.preset and self.to not in (None, PRESETS[self.preset].to):
            raise UsageError(f"--to {self.to} contradicts --preset {self.preset}, which is {PRESETS[self.preset].to}")
        if self.beam and not self.runner:
            raise UsageError("--beam without --runner", hint="name the Beam runner too")
        if not self.measure and (self.examples or self.max_relative_error is not None):
            raise UsageError("--no-measure with --examples or --max-relative-error", hint="leave one of them out")

    def check_examples(self) -> None:
        """Refuse options for reading examples without any; a pipeline's component connects them after the options.

        Raises:
            UsageError: There are such options.
        """
        default = ExampleOptions()
        idle = [field.name for field in attrs.fields(ExampleOptions)]
        idle = [name for name in idle if getattr(self, name) != getattr(default, name)]
        if idle and not self.examples:
            raise UsageError(f"{flag(idle[0])} without --examples", hint="give the examples too")

    @property
    def precision(self) -> str:
        """The precision that is asked for, by `to`, by the preset, or by neither."""
        return self.to or (PRESETS[self.preset].to if self.preset else "float16")

    @property
    def sources(self) -> frozenset[str] | None:
        """The types that are cast; None for all."""
        return PRESETS[self.preset].sources if self.preset else None

    @property
    def clamp(self) -> bool:
        """Whether values that do not fit become the largest that does."""
        return self.on_overflow == "clamp"


@attrs.frozen
class CastResult:
    """The result of a cast.

    Attributes:
        target: The folder that was written.
        size_bytes: Bytes of weights before.
        cast_size_bytes: Bytes of weights after.
        cast_tensors: How many weights changed their type.
        max_relative_error: Largest relative error among the values of weights and constants that stayed finite and
            nonzero; None without statistics.
        end_to_end_error: Largest error of an output, relative to its largest value, as measured against float32; None
            where it was not measured.
        measured_on: The inputs that it was measured on.
        kept_for_budget: The nodes that stay float32 for the budget, beside those that always do.
        without_effect: Flags that name what is not there.
        report: What `report.json` holds.
    """

    target: Path
    size_bytes: int
    cast_size_bytes: int
    cast_tensors: int
    max_relative_error: float | None
    end_to_end_error: float | None
    measured_on: str
    kept_for_budget: tuple[str, ...]
    without_effect: tuple[str, ...]
    report: dict[str, Any]

    @property
    def remarks(self) -> list[str]:
        """What was measured and kept, as lines for a reader."""
        measured = self.report.get("measured", {})
        if measured and self.end_to_end_error is None:
            return [f"the outputs were not measured: {measured['reason']}"]
        if not self.kept_for_budget:
            return []
        before = float(measured["error_before"])
        return [
            f"{len(self.kept_for_budget)} nodes stay float32, without which outputs would be off by {before:.3g}",
            *(f"the same again: --keep '{it}'" for it in measured["keep"] if len(it) <= _LONGEST),
        ]
