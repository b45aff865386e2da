"""Optimisation profiles: read from the command line, completed from the signature."""

from __future__ import annotations

import pytest

from tpu2gpu.errors import UsageError
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.trt_converter.profiles import check_names, fit_profiles, for_part, largest_batch, parse_profiles

IMAGES = TensorSpec("images", "float32", (None, 8, 8, 1))
IDS = TensorSpec("ids", "int32", (None, None))


def test_bounds_are_batches_or_whole_shapes() -> None:
    profile = {"images": ((1,), (4,), (16,)), "ids": ((1, 8), (4, 16), (8, 64))}
    assert parse_profiles(["images=1:4:16", "ids=1x8:4x16:8x64"]) == [profile]
    assert parse_profiles(["images=1:4:16, ids=1x8:4x16:8x64"]) == [profile]
    assert parse_profiles([]) == []


def test_an_input_that_comes_again_begins_another_profile() -> None:
    short, long = {"ids": ((1, 8), (4, 16), (8, 64))}, {"ids": ((1, 64), (2, 128), (4, 512))}
    assert parse_profiles(["ids=1x8:4x16:8x64", "ids=1x64:2x128:4x512"]) == [short, long]
    mask = {"mask": ((1,), (4,), (8,))}
    texts = ["ids=1x8:4x16:8x64", "mask=1:4:8", "ids=1x64:2x128:4x512,mask=1:4:8"]
    assert parse_profiles(texts) == [{**short, **mask}, {**long, **mask}]


def test_the_same_profile_twice_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        parse_profiles(["x=1:2:3", "x=1:1:1", "x=1:2:3"])
    assert caught.value.details == ("profile 3: the same as profile 1",)


def test_what_is_wrong_is_listed_all_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        parse_profiles(["images", "x=1:2", "a=4:2:8", "b=1x2:2:4", "c=1:2:3,c=1:2:3", "d=1xx2:1:1"])
    assert len(caught.value.details) == 6
    assert any("wanted 0 < MIN <= OPT <= MAX" in detail for detail in caught.value.details)


def test_the_default_is_batches_of_1_8_and_32() -> None:
    assert fit_profiles([IMAGES], [{}]) == [{"images": ((1, 8, 8, 1), (8, 8, 8, 1), (32, 8, 8, 1))}]


def test_a_fixed_batch_stays_fixed() -> None:
    fixed = TensorSpec("x", "float32", (2, 3))
    assert fit_profiles([fixed], []) == [{"x": ((2, 3), (2, 3), (2, 3))}]
    with pytest.raises(UsageError) as caught:
        fit_profiles([fixed], parse_profiles(["x=1:2:4"]))
    assert caught.value.details == ("x: float32 [2, 3]: the profile has 1, 2, 4",)


def test_vectors_and_single_numbers_have_profiles_too() -> None:
    vector, number = TensorSpec("v", "float32", (None,)), TensorSpec("n", "float32", ())
    assert fit_profiles([vector, number], []) == [{"v": ((1,), (8,), (32,)), "n": ((), (), ())}]


def test_an_unknown_dimension_beside_the_batch_needs_a_whole_shape() -> None:
    with pytest.raises(UsageError, match="does not fit") as caught:
        fit_profiles([IMAGES, IDS], [])
    assert caught.value.details == ("ids: int32 [?, ?]: a dimension beside the batch is unknown",)
    assert "--profile INPUT=MIN:OPT:MAX" in str(caught.value)
    assert fit_profiles([IDS], parse_profiles(["ids=1x8:4x16:8x64"]))[0]["ids"] == ((1, 8), (4, 16), (8, 64))


def test_a_profile_for_no_input_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        fit_profiles([IMAGES], parse_profiles(["image=1:2:3"]))
    assert "image: the model has no such input; did you mean 'images'?" in caught.value.details


def test_a_part_has_the_batches_of_the_whole_model_unless_more_is_said() -> None:
    whole = [TensorSpec("files", "string", (None,)), TensorSpec("ids", "int32", (None, None))]
    boundary = [TensorSpec("cut_pixels", "float32", (None, 8, 8, 3)), TensorSpec("cut_any", "float32", (None, None))]
    part = [*boundary, whole[1]]
    given = parse_profiles(["files=1:4:16,ids=1x8:4x16:16x64"])
    pixels = ((1,), (4,), (16,))
    assert for_part(part, whole, given) == [{"cut_pixels": pixels, "ids": given[0]["ids"]}]
    more = parse_profiles(["files=1:4:16,cut_any=1x2:2x2:3x3,cut_pixels=1:2:3"])
    assert for_part(part, whole, more) == [{"cut_pixels": ((1,), (2,), (3,)), "cut_any": more[0]["cut_any"]}]
    assert for_part(part, whole, []) == []
    with pytest.raises(UsageError) as caught:
        for_part(part, whole, parse_profiles(["files=1x2:2x2:3x2"]))
    assert caught.value.details == ("files: string [?]: the profile has 1x2, 2x2, 3x2",)
    with pytest.raises(UsageError) as caught:
        check_names(given, ["file", "ids"])
    assert caught.value.details == ("files: the model has no such input; did you mean 'file'?",)


def test_each_profile_is_completed_and_the_misfits_of_all_are_listed() -> None:
    fitted = fit_profiles([IMAGES, IDS], parse_profiles(["ids=1x8:4x16:8x64", "ids=1x64:2x128:4x512,images=1:2:64"]))
    assert [profile["images"][2][0] for profile in fitted] == [32, 64]
    assert [profile["ids"][1] for profile in fitted] == [(4, 16), (2, 128)]
    assert largest_batch(fitted) == 64
    with pytest.raises(UsageError) as caught:
        fit_profiles([IDS], parse_profiles(["ids=1:2:3", "ids=1x2x3:1x2x3:1x2x3"]))
    assert caught.value.details == (
        "ids: int32 [?, ?]: the profile has 1, 2, 3",
        "ids: int32 [?, ?]: the profile has 1x2x3, 1x2x3, 1x2x3",
    )


@pytest.mark.parametrize(
    ("inputs", "form"),
    [
        ([IDS], "ids=1xMIN:8xOPT:32xMAX"),
        (
            [TensorSpec("ids", "int32", (None, None)), TensorSpec("mask", "int32", (None, None))],
            "ids=1xMIN:8xOPT:32xMAX,mask=1xMIN:8xOPT:32xMAX",
        ),
        ([IMAGES, TensorSpec("any", "float32", (None, None, None, 3))], "any=1xMINxMINx3:8xOPTxOPTx3:32xMAXxMAXx3"),
        ([TensorSpec("frames", "float32", (4, None, 80))], "frames=4xMINx80:4xOPTx80:4xMAXx80"),
    ],
)
def test_a_missing_profile_is_told_in_its_form_without_sizes_that_nobody_gave(
    inputs: list[TensorSpec], form: str
) -> None:
    with pytest.raises(UsageError) as caught:
        fit_profiles(inputs, [])
    meaning = ", with the smallest, the usual and the largest size for MIN, OPT and MAX"
    assert caught.value.hint.endswith(f"here --profile {form}{meaning}")
    filled = form.replace("MIN", "16").replace("OPT", "64").replace("MAX", "128")
    assert fit_profiles(inputs, parse_profiles([filled]))
