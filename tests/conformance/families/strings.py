"""Strings: TensorFlow keeps them, whatever they are made into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.conformance.case import Case, Const, combinations, ramp

WORDS = np.array([b"one two", b"", b" Three,four ", "größer".encode(), b"1.5", b"-7", b"\x00\xff"], object)
NUMERALS = np.array([b"1.5", b"-7", b"0", b"1e3", b" 12 ", b"9007199254740993"], object)
INTEGERS = np.array([b"15", b"-7", b"0", b"2147483647"], object)
TEXT = np.array([b"one two", b"", b" Three,four ", "größer".encode(), b"1.5"], object)


def cases() -> Iterator[Case]:
    """Operations that take strings, give them, or both."""
    yield from made_of_strings()
    yield from made_into_strings()
    yield from moved()


def made_of_strings() -> Iterator[Case]:
    words = {"words": {"input": WORDS}, "none": {"input": WORDS[:0]}, "2-D": {"input": WORDS[:6].reshape(2, 3)}}
    yield from combinations("StringToHashBucketFast", words, num_buckets=[1, 7, 2**40])
    yield from combinations("StringToHashBucketStrong", words, num_buckets=[7], key=[[1, 2]])
    named = {label: {"string_tensor": each["input"]} for label, each in words.items()}
    yield from combinations("StringToHashBucket", named, num_buckets=[7])
    numbers = {"numbers": {"string_tensor": NUMERALS}, "none": {"string_tensor": NUMERALS[:0]}}
    yield from combinations("StringToNumber", numbers, out_type=["float32", "float64"])
    yield from combinations(
        "StringToNumber", {"integers": {"string_tensor": INTEGERS}}, out_type=["int32", "int64", "float32"]
    )
    yield from combinations("StringLength", {"words": {"input": TEXT}}, unit=["BYTE", "UTF8_CHAR"])
    raw = np.array([b"\x01\x00\x00\x80", b"\xff\xff\x7f\x00"], object)
    yield from combinations(
        "DecodeRaw", {"bytes": {"bytes": raw}}, out_type=["uint8", "int16", "int32"], little_endian=[True, False]
    )
    padded = {"shorter and longer": {"input_bytes": raw, "fixed_length": Const(np.int32(8))}}
    yield from combinations("DecodePaddedRaw", padded, out_type=["uint8", "int32"])
    yield from combinations("RegexFullMatch", {"words": {"input": TEXT, "pattern": Const(b".*o.*")}})
    yield from combinations("StaticRegexFullMatch", {"words": {"input": TEXT}}, pattern=[".*o.*", ""])
    yield from combinations("UnicodeDecode", {"words": {"input": TEXT}}, input_encoding=["UTF-8"])
    yield from combinations("Equal", {"strings": {"x": WORDS, "y": WORDS[::-1].copy()}})
    yield from combinations("NotEqual", {"strings": {"x": WORDS, "y": WORDS[::-1].copy()}})
    rows = np.array([b"1.5,7,x", b",,", b"-2,8,y"], object)
    defaults = [Const(np.array([0.5], np.float32)), Const(np.array([3], np.int64)), Const(np.array([b"-"], object))]
    yield from combinations("DecodeCSV", {"rows": {"records": rows, "record_defaults": defaults}})
    yield from combinations("ParseExampleV2", {"examples": {"serialized": serialized()}}, made_by=parsed)
    yield from combinations("DecodePng", {"4x5": {"contents": np.array(png(), object)}}, channels=[0, 1, 3])


def made_into_strings() -> Iterator[Case]:
    for dtype in ("float32", "float64", "int32", "int64", "uint8", "bool"):
        values = ramp("int32", 6) % 2 == 0 if dtype == "bool" else ramp(dtype, 6)
        yield from combinations("AsString", {"numbers": {"input": values}})
    yield from combinations("AsString", {"digits": {"input": ramp("float32", 6)}}, precision=[3], scientific=[True])
    yield from combinations(["StringLower", "StringUpper"], {"words": {"input": TEXT}}, encoding=["", "utf-8"])
    yield from combinations("StringStrip", {"words": {"input": TEXT}})
    yield from combinations("StringJoin", {"two": {"inputs": [TEXT, TEXT[::-1].copy()]}}, separator=["", " - "])
    joined = {"all": {"inputs": TEXT, "reduction_indices": Const(np.array([0], np.int32))}}
    yield from combinations("ReduceJoin", joined, separator=["", " "])
    cut = {"from the end": {"input": TEXT[:1], "pos": Const(np.int32(-3)), "len": Const(np.int32(2))}}
    yield from combinations("Substr", cut)
    yield from combinations("StringSplitV2", {"words": {"input": TEXT, "sep": Const(b"")}})
    yield from combinations("StringSplit", {"words": {"input": TEXT, "delimiter": Const(b" ")}}, skip_empty=[True])
    replaced = {"words": {"input": TEXT, "pattern": Const(b"o(.)"), "rewrite": Const(rb"<\1>")}}
    yield from combinations("RegexReplace", replaced, replace_global=[True, False])
    yield from combinations("StaticRegexReplace", {"words": {"input": TEXT}}, pattern=["[a-e]"], rewrite=["_"])
    yield from combinations(["EncodeBase64", "DecodeBase64"], {"words": {"input": np.array([b"b25l", b""], object)}})
    ngrams = {"words": {"data": TEXT, "data_splits": np.array([0, 2, 5], np.int64)}}
    how = {"separator": [" "], "ngram_widths": [[2]], "left_pad": ["("], "right_pad": [")"]}
    yield from combinations("StringNGrams", ngrams, **how, pad_width=[1], preserve_short_sequences=[False])
    image = np.abs(ramp("int32", 4, 5, 3)).astype(np.uint8)
    yield from combinations("EncodePng", {"4x5": {"image": image}})
    yield from combinations("EncodeJpeg", {"4x5": {"image": image}}, quality=[90])


def moved() -> Iterator[Case]:
    """Operations that take whatever there is, strings too."""
    yield from combinations("Identity", {"strings": {"input": WORDS}})
    yield from combinations("Reshape", {"strings": {"tensor": WORDS, "shape": Const(np.array([7, 1], np.int32))}})
    at = {"indices": np.array([2, 0], np.int32), "axis": Const(np.int32(0))}
    yield from combinations("GatherV2", {"strings": {"params": WORDS, **at}})
    labels = {"labels": {"params": Const(TEXT), **at}}
    yield from combinations("GatherV2", labels)
    yield from combinations("ConcatV2", {"strings": {"values": [WORDS, WORDS], "axis": Const(np.int32(0))}})
    chosen = {"strings": {"condition": WORDS == b"", "t": WORDS, "e": WORDS[::-1].copy()}}
    yield from combinations("SelectV2", chosen)
    yield from combinations("Unique", {"strings": {"x": np.array([b"a", b"b", b"a"], object)}})


def serialized() -> np.ndarray:
    """Return examples of which one lacks a feature."""
    from tensorflow.train import BytesList, Example, Feature, Features, FloatList, Int64List

    whole = {"x": Feature(float_list=FloatList(value=[1.5, -2])), "n": Feature(int64_list=Int64List(value=[2**40]))}
    lacking = {"s": Feature(bytes_list=BytesList(value=[b"word"])), "x": Feature(float_list=FloatList(value=[0, 1]))}
    return np.array([Example(features=Features(feature=each)).SerializeToString() for each in (whole, lacking)], object)


def parsed(serialized: Any) -> Any:
    import tensorflow as tf

    features = {
        "x": tf.io.FixedLenFeature([2], tf.float32),
        "n": tf.io.FixedLenFeature([], tf.int64, default_value=-1),
        "s": tf.io.FixedLenFeature([], tf.string, default_value=""),
    }
    return tf.io.parse_example(serialized, features)


def png() -> bytes:
    """Return an image of 4 by 5 pixels as a file."""
    import tensorflow as tf

    return bytes(tf.io.encode_png(np.abs(ramp("int32", 4, 5, 3)).astype(np.uint8)).numpy())
