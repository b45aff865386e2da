"""TFRecord files of tf.Examples; their content tells whether they are compressed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tpu2gpu.errors import ExamplesError, first_line
from tpu2gpu.graphs.light_protos import load_protos
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.examples.forms.base import ExampleForm
from tpu2gpu.running.examples.forms.record_stream import DamagedRecordError, read_records
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.examples.rows import ExampleRow, text_array


class TFRecords(ExampleForm):
    """A TFRecord file, plain or compressed by gzip or zlib."""

    form = "TFRecord files"

    def detect(self, path: Path) -> bool:
        """Take every file that no other form takes; what it is then shows when it is read."""
        return path.is_file()

    def rows(self, path: Path, reading: Reading, skip: int = 0) -> Iterator[ExampleRow]:
        """Read the records."""
        load_protos()
        from google.protobuf.message import DecodeError
        from tensorflow.core.example import example_pb2

        number = skip
        try:
            for record in read_records(path, skip):
                example = example_pb2.Example.FromString(record)
                yield ExampleRow(
                    f"{path}, record {number}", _Features(example.features.feature), example.SerializeToString
                )
                number += 1
        except OSError as error:  # the file may be sound
            raise ExamplesError(f"{path}, record {number}: cannot be read ({first_line(error)})") from error
        except (DamagedRecordError, DecodeError) as error:
            what = "no tf.Example" if isinstance(error, DecodeError) else "damaged, or no TFRecord file"
            raise ExamplesError(f"{path}, record {number}: {what}", hint="write it again, or leave it out") from error


class _Features(Mapping[str, "Array | None"]):
    """The features of a tf.Example, each made an array when it is asked for."""

    def __init__(self, features: Any) -> None:
        self._features = features

    def __getitem__(self, name: str) -> Array | None:
        if name not in self._features:  # which a map of messages would add
            raise KeyError(name)
        feature = self._features[name]
        kind = feature.WhichOneof("kind")
        if kind == "bytes_list":
            return text_array(list(feature.bytes_list.value))
        if kind == "float_list":
            return _numbers(feature.float_list.value, np.float32)
        return None if kind is None else _numbers(feature.int64_list.value, np.int64)

    def __contains__(self, name: object) -> bool:  # of which the Mapping's own makes an array
        return name in self._features

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._features))

    def __len__(self) -> int:
        return len(self._features)


def _numbers(values: Any, dtype: type) -> Array:
    return np.fromiter(values, dtype, len(values))  # asarray takes up to four times as long
