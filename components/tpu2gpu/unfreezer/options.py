"""Options and result of `unfreeze_model`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.graphs.trust.trust_option import trust_option
from tpu2gpu.options import KnownNames, option


@attrs.frozen(kw_only=True)
class UnfreezeOptions(KnownNames):
    """Which constants become variables, what they are called, and whose variables they are to be.

    Attributes:
        include: Constants that do although the graph does not show it, by regular expression.
        exclude: Constants that do not although the graph shows it; stronger than `include`.
        rename: Rules for the variables' names, `REGEX=REPLACEMENT`, applied in order.
        trust: What the model may do besides computing.
        onto: Model code (`module:function`) or a checkpoint's prefix, for whose variables a checkpoint is written.
    """

    include: str = option("", "constants that are weights too", metavar="REGEX")
    exclude: str = option("", "constants that are no weights", metavar="REGEX")
    rename: tuple[str, ...] = option((), "rename variables, in order", metavar="'REGEX=REPLACEMENT'")
    trust: tuple[str, ...] = trust_option()
    onto: str = option("", "write a checkpoint that this code, or readers of this one, restore",
                       metavar="MODULE:FUNCTION|PREFIX")  # fmt: skip


@attrs.frozen
class UnfreezeResult:
    """What became variables.

    Attributes:
        target: The folder that was written.
        variables: How many constants became variables.
        trainable_variables: How many of those training would change.
        size_bytes: Their bytes.
        matched_variables: How many variables of the code of `--onto` got a weight.
        unmatched_variables: How many did not.
        unmatched_weights: How many weights found no variable there.
        report: What `report.json` holds.
        remarks: What stands in the report and should not be overlooked.
    """

    target: Path
    variables: int
    trainable_variables: int
    size_bytes: int
    matched_variables: int | None
    unmatched_variables: int | None
    unmatched_weights: int | None
    report: dict[str, Any]
    remarks: tuple[str, ...] = ()
