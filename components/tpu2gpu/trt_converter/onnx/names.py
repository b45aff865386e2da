"""Names of inputs and outputs where one name may stand for one tensor only."""

from __future__ import annotations

from collections.abc import Iterable


def output_names(inputs: Iterable[str], outputs: Iterable[str]) -> dict[str, str]:
    """Return a name for each output: its own, but for one that is named like an input.

    Args:
        inputs: The names of the inputs.
        outputs: The names of the outputs, in any order.
    """
    given, wanted = set(inputs), sorted(outputs)
    taken, names = {*given, *wanted}, {}
    for output in wanted:
        name = output
        while name in given or (name != output and name in taken):
            name += "_output"
        taken.add(name)
        names[output] = name
    return names
