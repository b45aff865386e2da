"""The values that an input is made for, as far as a graph tells."""

from __future__ import annotations

from typing import Any

import attrs

Range = tuple[float, float]


@attrs.frozen(kw_only=True)
class Domain:
    """The values that an input is made for.

    Attributes:
        low: The least value that is no error; None where the graph sets no limit.
        high: The largest such value.
        ranges: Ranges that the graph expects: of images that it divides by 255, of features that it normalises.
        points: Values at which something changes: those that it compares with, the ends of ranges.
        texts: Strings that it knows: the keys of its tables, what it compares with.
        text_form: What its strings hold else: `digits`, `bytes`, or the op that decodes image files.
        image_size: Height and width of the image files, where the graph takes one size alone.
        record: What its strings hold where they are serialized tf.Examples.
        why: What in the graph says so.
    """

    low: float | None = None
    high: float | None = None
    ranges: tuple[Range, ...] = ()
    points: tuple[float, ...] = ()
    texts: tuple[bytes, ...] = ()
    text_form: str = ""
    image_size: tuple[int, int] | None = None
    record: RecordForm | None = None
    why: tuple[str, ...] = ()

    @property
    def is_image(self) -> bool:
        """Tell whether the values look like those of pixels."""
        return any(high - low >= 200 for low, high in self.ranges)

    def typical(self) -> Range | None:
        """Return the range from which typical values come; None where nothing tells."""
        if self.ranges:
            low, high = min(low for low, _ in self.ranges), max(high for _, high in self.ranges)
        elif self.low is not None and self.high is not None:
            return self.low, self.high
        elif self.low is not None:
            low, high = self.low, self.low + 1
        elif self.high is not None:
            low, high = self.high - 1, self.high
        elif len(self.points) > 1:
            low, high = min(self.points), max(self.points)
        else:
            return None
        return self.clip(low), self.clip(high)

    def clip(self, value: float) -> float:
        """Return the nearest value within the limits."""
        if self.low is not None:
            value = max(value, self.low)
        return value if self.high is None else min(value, self.high)

    def to_json(self) -> dict[str, Any]:
        """Return what a report says of it; what is unknown is left out."""
        data = {
            "low": self.low,
            "high": self.high,
            "ranges": [list(each) for each in self.ranges],
            "points": list(self.points),
            "texts": len(self.texts) or None,
            "text_form": self.text_form,
            "record": None if self.record is None else self.record.to_json(),
            "why": list(self.why),
        }
        return {name: value for name, value in data.items() if value not in (None, [], "")}


@attrs.frozen
class FeatureForm:
    """A feature of a tf.Example.

    Attributes:
        kind: The list of tf.train.Feature that holds it: `float_list`, `int64_list` or `bytes_list`.
        count: How many values it has; None where that is free.
        domain: The values.
    """

    kind: str
    count: int | None
    domain: Domain


@attrs.frozen
class RecordForm:
    """The features that a graph parses of a serialized tf.Example, by name."""

    features: dict[str, FeatureForm]

    def merged(self, other: RecordForm) -> RecordForm:
        """Return the features of both; a graph may parse its records twice."""
        return RecordForm({**other.features, **self.features})

    def to_json(self) -> dict[str, Any]:
        """Return what a report says of it."""
        return {
            name: {"kind": each.kind, "count": each.count, **each.domain.to_json()}
            for name, each in sorted(self.features.items())
        }
