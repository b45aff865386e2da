"""Rename variables by rules, and keep the names apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.passes.base import Changes, Pass

# What training on TPU leaves in names: TF 1's bfloat16 scope, scopes that were opened twice, those of replicas.
DEFAULT_RULES = (
    ("^bfloat16/+", ""),
    ("//+", "/"),
    (r"(^|/)(?:replica|tower)_\d+/", r"\1"),
    (r"/replica_\d+$", ""),
)

_DEFAULTS = [(re.compile(pattern), new) for pattern, new in DEFAULT_RULES]


def parse_rules(rules: Iterable[str]) -> list[tuple[re.Pattern[str], str]]:
    """Read `REGEX=REPLACEMENT` rules.

    Raises:
        UsageError: A rule has no `=` or its expression is wrong; all are listed.
    """
    parsed, wrong = [], []
    for rule in rules:
        pattern, separator, replacement = rule.rpartition("=")
        try:
            if not separator:
                raise re.error("no '=' in it")
            parsed.append((re.compile(pattern), replacement))
        except re.error as error:
            wrong.append(f"{rule!r}: {error}")
    if wrong:
        raise UsageError("--rename: rules have the form 'REGEX=REPLACEMENT'", details=wrong)
    return parsed


def check_expressions(option: str, expressions: Iterable[str]) -> None:
    """Check that regular expressions are well-formed.

    Raises:
        UsageError: Some are not; all are listed.
    """
    wrong = []
    for expression in expressions:
        try:
            re.compile(expression)
        except re.error as error:
            wrong.append(f"{expression!r}: {error}")
    if wrong:
        raise UsageError(f"--{option}: not a regular expression", details=wrong)


def idle_rules(rules: Iterable[str], names: Iterable[str], *, defaults: bool = True) -> list[str]:
    """Return the rules that find nothing in any name, each behind those before it."""
    current = [_applied(name, _DEFAULTS) if defaults else name for name in names]
    idle = []
    for rule, (pattern, replacement) in zip(rules := list(rules), parse_rules(rules), strict=True):
        if not any(pattern.search(name) for name in current):
            idle.append(rule)
        current = [pattern.sub(replacement, name) for name in current]
    return idle


def describe_idle_rules(rules: Iterable[str], names: Iterable[str], *, defaults: bool = True) -> list[str]:
    """Tell of each rule that finds nothing what the names are."""
    names = sorted(names)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [
        f"--rename {it}: found in no variable's name; there are {shown}"
        for it in idle_rules(rules, names, defaults=defaults)
    ]


def new_name(name: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str:
    """Return a name after the default rules and the given ones."""
    return _applied(name, [*_DEFAULTS, *rules])


def _applied(name: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in rules:
        name = pattern.sub(replacement, name)
    return name


@attrs.frozen
class RenameVariables(Pass):
    """Rename a model's variables; the change is `renamed_variables`, the new names by the old ones.

    The default rules come first, then the given ones in their order. Where the default rules would give two variables
    one name, or a variable that of another node, they do nothing.

    Attributes:
        rules: `REGEX=REPLACEMENT`, applied with `re.sub`.
        defaults: Apply the default rules.
    """

    PHRASES: ClassVar = {"renamed_variables": "renames {} variables"}

    rules: tuple[str, ...] = ()
    defaults: bool = True

    def run(self, model: ServingModel) -> Changes:
        """Rename variables.

        Raises:
            UsageError: A rule is malformed, or two variables would have one name.
        """
        parsed = parse_rules(self.rules)
        cleaned = _cleaned(model) if self.defaults else {}
        wanted: dict[str, list[str]] = {}
        for name in model.variables:
            wanted.setdefault(_applied(cleaned.get(name, name), parsed), []).append(name)
        clashes = [f"{new!r}: from {', '.join(old)}" for new, old in wanted.items() if len(old) > 1]
        clashes += [
            f"{new!r}: a node has this name" for new, old in wanted.items() if new in model.nodes and old != [new]
        ]
        if clashes:
            raise UsageError("--rename: names must stay apart", details=clashes, hint="make the rules more specific")
        changed = {old[0]: new for new, old in wanted.items() if old[0] != new}
        for old_name, new_name in changed.items():
            node, variable = model.nodes.pop(old_name), model.variables.pop(old_name)
            node.name = variable.node = new_name
            node.attr["shared_name"].s = new_name.encode()
            model.nodes[new_name], model.variables[new_name] = node, variable
        model.replace_all_uses(changed)
        return {"renamed_variables": changed}


def _cleaned(model: ServingModel) -> dict[str, str]:
    """Name by the default rules, for the variables that can have them."""
    wanted = {name: _applied(name, _DEFAULTS) for name in model.variables}
    counts = Counter(wanted.values())
    return {name: new for name, new in wanted.items() if counts[new] == 1 and (new == name or new not in model.nodes)}
