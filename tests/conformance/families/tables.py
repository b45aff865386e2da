"""Tables of keys and values: keys that are missing, that come twice, and buckets for those out of vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.conformance.case import Case, combinations

STRINGS = np.array([[b"a", b"b"], [b"", b"missing"], [b"c", b"a"]], object)
NUMBERS = np.array([[1, 2], [0, -1], [2**40, -(2**40)]])


def cases() -> Iterator[Case]:
    """Static tables of every pair of types; dense ones; numbers of buckets."""
    asked = {"some": {"keys": STRINGS}, "none": {"keys": STRINGS[:0]}, "scalar": {"keys": np.array(b"b", object)}}
    numbers = {"some": {"keys": NUMBERS}, "none": {"keys": NUMBERS[:0]}, "scalar": {"keys": np.array(2)}}
    how = {"made_by": found, "beside": ("HashTableV2",)}
    values = ["int64", "int32", "float32", "float64", "string"]
    yield from combinations("LookupTableFindV2", asked, **how, key=["string"], value=values)
    yield from combinations("LookupTableFindV2", numbers, **how, key=["int64"], value=values)
    small = {"some": {"keys": NUMBERS[:2].astype(np.int32)}}
    yield from combinations("LookupTableFindV2", small, **how, key=["int32"], value=["int64", "float32", "string"])
    buckets = {"made_by": in_buckets, "beside": ("HashTableV2", "StringToHashBucketFast")}
    yield from combinations("LookupTableFindV2", asked, **buckets, count=[1, 5])
    yield from combinations("LookupTableSizeV2", asked, made_by=counted, beside=("HashTableV2",))


def table(key: str, value: str) -> Any:
    """Return a table of three keys."""
    import tensorflow as tf

    keys = tf.constant(["a", "b", "c"]) if key == "string" else tf.constant([1, 2, 2**40 if key == "int64" else 3], key)
    values = tf.constant(["x", "", "z"]) if value == "string" else tf.constant([7, 0, -5], value)
    default = tf.constant("?") if value == "string" else tf.constant(-1, value)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default)


def found(keys: Any, key: str, value: str) -> Any:
    return table(key, value).lookup(keys)


def in_buckets(keys: Any, count: int) -> Any:
    import tensorflow as tf

    initial = tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b", "c"]), tf.constant([0, 1, 2], tf.int64))
    return tf.lookup.StaticVocabularyTable(initial, count).lookup(keys)


def counted(keys: Any) -> Any:
    import tensorflow as tf

    made = table("string", "int64")
    return made.lookup(keys) + made.size() + tf.zeros([], tf.int64)
