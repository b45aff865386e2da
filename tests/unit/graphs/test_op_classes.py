"""No op that takes a path, an address or code counts as one that only computes, wherever it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.hostile_places import PLACES, hostile_model
from tests.models.ops_by_definition import registered_ops
from tpu2gpu.graphs.formats.saved_model import choose_meta_graph, parse_saved_model
from tpu2gpu.graphs.op_classes import class_of
from tpu2gpu.graphs.trust.review import review_meta_graph

_STRING = 7
_TELLING = re.compile(
    r"(?<!pro)file|path|dir|prefix|urls?\b|uri|address|host|server|target|protocol|descriptor|memory_region|data_source"
    r"|driver|basename|token|pattern|library|module|program|serialized_segment|socket|port\b",
    re.IGNORECASE,
)
# The texts that are called so, and are not paths, addresses or code: or code that is looked into.
_HARMLESS = {
    "DecodeProtoV2": {"descriptor_source"},  # looked at, node by node
    "EncodeProto": {"descriptor_source"},
    "RegexFullMatch": {"pattern"},
    "RegexReplace": {"pattern"},
    "SetStatsAggregatorDataset": {"counter_prefix"},
    "ExperimentalSetStatsAggregatorDataset": {"counter_prefix"},
    "ShardedFilename": {"basename"},  # gives a name, and opens nothing
    "ShardedFilespec": {"basename"},
    "StaticRegexFullMatch": {"pattern"},
    "StaticRegexReplace": {"pattern"},
    "TPUReplicateMetadata": {"host_compute_core"},  # numbers of cores
    "TRTEngineOp": {"serialized_segment"},  # looked at, node by node
    "XlaCallModule": {"module"},  # its calls are looked at
    "GetMinibatchSplitsWithPhysicalReplica": {"program_key"},  # of a program in a TPU's memory
    "GetMinibatchesInCsrWithPhysicalReplica": {"program_key"},
    "StoreMinibatchStatisticsInFdo": {"program_key"},
}
HOSTILE_OPS = sorted(op for op in registered_ops() if class_of(op) not in ("pure", "unknown"))


def texts(op: str) -> Iterator[str]:
    """Name the inputs and attributes of an op that are texts."""
    definition = registered_ops()[op]
    yield from (it.name for it in definition.input_arg if it.type == _STRING)
    for attribute in definition.attr:
        if attribute.type in ("string", "list(string)") and not attribute.HasField("allowed_values"):
            yield attribute.name


def test_no_op_that_takes_a_path_or_an_address_counts_as_pure() -> None:
    pure = [op for op in registered_ops() if class_of(op) == "pure"]
    taking = {op: {text for text in texts(op) if _TELLING.search(text)} - _HARMLESS.get(op, set()) for op in pure}
    assert {op: found for op, found in taking.items() if found} == {}


def is_found(op: str, place: str, folder: Path) -> bool:
    text = b"file:///tmp/words.txt" if op == "PrintV2" else b"/tmp/words.txt"
    hostile_model(folder, op, place, text)
    findings = review_meta_graph(choose_meta_graph(parse_saved_model(folder), folder))
    return [finding.op for finding in findings if finding.node == "hidden"] == [op]


@pytest.mark.parametrize("number", range(len(PLACES)), ids=list(PLACES))
def test_every_op_with_an_effect_is_found_in_one_place(number: int, tmp_path: Path) -> None:
    place = list(PLACES)[number]
    hidden = HOSTILE_OPS[number :: len(PLACES)]
    assert [op for op in hidden if not is_found(op, place, tmp_path / op)] == []


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_every_op_with_an_effect_is_found_in_every_place(place: str, tmp_path: Path) -> None:
    assert [op for op in HOSTILE_OPS if not is_found(op, place, tmp_path / op)] == []
