"""Options: checked when they are made, with the nearest known word in every message."""

from __future__ import annotations

import attrs
import pytest

from tpu2gpu.errors import UsageError
from tpu2gpu.options import field_types, flag, from_json, from_mapping, option, recorded, to_json


@attrs.frozen(kw_only=True)
class Example:
    color: str = option("red", "a color", choices=("red", "green"))
    names: tuple[str, ...] = option((), "names")
    share: float | None = option(None, "a share", minimum=0)
    count: int = option(3, "a count", minimum=1)
    loud: bool = option(False, "speak up")


def test_options_travel_as_canonical_json() -> None:
    options = Example(names=("a", "b"), share=1)
    text = to_json(options)
    assert text == '{"color":"red","count":3,"loud":false,"names":["a","b"],"share":1}'
    assert from_json(Example, text) == options


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"color": "gren"}, r"--color gren: not one of red, green; did you mean 'green'\?"),
        ({"count": 0}, "--count 0: must be at least 1"),
        ({"share": -0.5}, r"--share -0\.5: must be at least 0"),
        ({"share": float("nan")}, "--share nan: must be a finite number"),
        ({"share": float("inf")}, "--share inf: must be a finite number"),
        ({"count": "3"}, "--count '3': must be int, not str"),
        ({"count": True}, "--count True: must be int, not bool"),
        ({"names": (1,)}, "--names 1: must be str, not int"),
        ({"count": None}, "--count None: must be int, not NoneType"),
        ({"names": 7}, "--names 7: must be str, not int"),
        ({"names": None}, "--names None: must be str, not NoneType"),
    ],
)
def test_values_are_checked_at_construction(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Example(**values)


def test_a_manifest_tells_no_option_that_changes_nothing_in_what_is_written() -> None:
    @attrs.frozen
    class Work:
        precision: str = option("float16", "what to make")
        threads: int = option(4, "how to make it", recorded=False)

    assert recorded(Work(threads=8)) == {"precision": "float16"}


def test_unknown_keys_are_all_named_with_the_nearest_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        from_mapping(Example, {"colour": "red", "zzz": 1}, "settings.yaml")
    assert caught.value.message == "settings.yaml: unknown options"
    assert caught.value.details[0] == "colour: did you mean 'color'?"
    assert caught.value.details[1].startswith("zzz: known are color, count")
    assert caught.value.exit_code == 2


def test_text_that_is_not_json_is_named() -> None:
    with pytest.raises(UsageError, match="step x: not JSON"):
        from_json(Example, "{", "step x")


def test_flags_and_types_follow_from_the_fields() -> None:
    assert flag("max_p99_ms") == "--max-p99-ms"
    assert field_types(Example) == {
        "color": (str, False),
        "names": (str, False),
        "share": (float, True),
        "count": (int, False),
        "loud": (bool, False),
    }


def test_options_that_there_are_not_are_told_all_at_once_with_the_nearest() -> None:
    from tpu2gpu.unfreezer.options import UnfreezeOptions

    with pytest.raises(UsageError) as caught:
        UnfreezeOptions(ont="x", inclde="y")  # type: ignore[call-arg]
    assert str(caught.value).startswith("UnfreezeOptions: unknown options")
    assert list(caught.value.details) == ["ont: did you mean 'onto'?", "inclde: did you mean 'include'?"]


def test_one_text_for_an_option_that_may_be_repeated_is_one_value() -> None:
    assert Example(names="ab").names == ("ab",)


@pytest.mark.parametrize("values", [{"count": [1]}, {"share": [None]}, {"color": ["red"]}])
def test_a_list_is_no_value_of_an_option_that_takes_one(values: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"must be .*, not a list"):
        from_mapping(Example, values)


def test_keys_that_are_no_text_are_unknown() -> None:
    with pytest.raises(UsageError, match="unknown option"):
        from_mapping(Example, {1: 2})
