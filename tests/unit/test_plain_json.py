"""JSON and YAML of strangers: what is no plain data is refused, in time that grows with the text alone."""

from __future__ import annotations

import time

import pytest

from tpu2gpu.plain_json import parse_json, parse_yaml


def test_strings_with_brackets_are_no_nesting() -> None:
    text = '["' + "[" * 500 + '\\"]", {"a": "}"}]'
    assert parse_json(text) == ["[" * 500 + '"]', {"a": "}"}]


@pytest.mark.parametrize("text", ['"' + '\\"' * 200_000, '"' * 200_001, "[" + '"a\\' * 100_000], ids=["a", "b", "c"])
def test_strings_that_do_not_end_take_no_long_time(text: str) -> None:
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "? [a]\n: 1", "2020-13-45", "<<: 1", "&a [*a]", "!!python/object/apply:os.system [id]", "[" * 500],
)
def test_yaml_that_is_no_plain_data_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_yaml(text)


def test_many_keys_take_no_long_time() -> None:
    begin = time.process_time()
    assert len(parse_yaml("".join(f"k{number}: 1\n" for number in range(20_000)))) == 20_000
    assert time.process_time() - begin < 30
