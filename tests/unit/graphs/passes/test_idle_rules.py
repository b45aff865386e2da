"""A rule for names that finds nothing is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.models import networks
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.graphs.passes.rename_variables import describe_idle_rules, idle_rules
from tpu2gpu.unfreezer.options import UnfreezeOptions
from tpu2gpu.unfreezer.unfreezing import unfreeze_model

NAMES = ["bfloat16/resnet/conv/kernel", "resnet/dense/bias"]


def test_rules_are_idle_where_they_find_nothing_behind_those_before_them() -> None:
    assert idle_rules(["^resnet/=", "^conv/=stem/"], NAMES) == []
    assert idle_rules(["^resnet50/=", "^resnet/=a/", "^resnet/=b/"], NAMES) == ["^resnet50/=", "^resnet/=b/"]
    assert idle_rules(["^bfloat16/="], NAMES) == ["^bfloat16/="]  # which the default rules have done
    assert idle_rules(["^bfloat16/="], NAMES, defaults=False) == []


def test_what_is_told_names_the_rule_and_the_names() -> None:
    assert describe_idle_rules(["x=y"], NAMES) == [
        "--rename x=y: found in no variable's name; there are bfloat16/resnet/conv/kernel, resnet/dense/bias"
    ]


def test_import_and_unfreeze_tell_a_rule_that_finds_nothing(built: Callable[..., Path], tmp_path: Path) -> None:
    source = built(networks.tf1_network, resource=True)
    options = ImportOptions(rename=("^nothing/=",))
    assert import_model(source, tmp_path / "clean", options).remarks[0].startswith("--rename ^nothing/=: found in no")
    freeze_model(tmp_path / "clean", tmp_path / "frozen")
    unfrozen = unfreeze_model(tmp_path / "frozen", tmp_path / "again", UnfreezeOptions(rename=("^nothing/=",)))
    assert unfrozen.remarks[0].startswith("--rename ^nothing/=: found in no")
