"""A conversion's source and options, parsed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.process.worker import run_in_child
from tpu2gpu.running.comparison.tolerances import conversion_tolerance
from tpu2gpu.trt_converter.backend_registry import AUTO
from tpu2gpu.trt_converter.feeds import DEFAULT_EXAMPLES
from tpu2gpu.trt_converter.options import ConvertOptions, check_name
from tpu2gpu.trt_converter.profiles import Profile, parse_profiles

MOST_BYTES = 512 << 20
"""Of a model; two processes that hold a larger one would take the memory of a small machine."""


@attrs.frozen
class Request:
    """A conversion's source and options, parsed.

    Attributes:
        source: The SavedModel's folder.
        options: As given.
        profiles: What `--profile` says.
        reading: How examples are read, as plain data.
    """

    source: Path
    options: ConvertOptions
    profiles: list[Profile]
    reading: dict[str, Any]

    @classmethod
    def of(cls, source: Path, options: ConvertOptions) -> Request:
        """Parse the options that are strings.

        Raises:
            UsageError: One has another form.
        """
        check_name(options.name)
        return cls(source, options, parse_profiles(options.profile), options.reading().to_json())

    @property
    def needs_engine(self) -> bool:
        """Tell whether there is nothing to serve without an engine."""
        return self.options.layout == "triton" and self.options.triton_backend == "tensorrt"

    @property
    def engine_is_optional(self) -> bool:
        """Tell whether the model may be served without an engine where its builder does not take it."""
        return self.options.backend == AUTO and not self.needs_engine

    @property
    def example_limit(self) -> int:
        """Return how many examples are read at most."""
        return self.options.int8_examples if self.options.int8 else DEFAULT_EXAMPLES

    def tolerance(self, dtype: str) -> float:
        """Return the largest relative error allowed: what `--tolerance` says, else the default for a dtype."""
        given = self.options.tolerance
        return conversion_tolerance(dtype) if given is None else given

    def in_child(
        self,
        function: str,
        name: str,
        environment: Mapping[str, str],
        *,
        preload: Sequence[str] = (),
        hear: Callable[[Any], None] | None = None,
        stop: threading.Event | None = None,
        **arguments: Any,
    ) -> tuple[Any, int]:
        """Run a back end in a process of its own, within the limits; return its result and peak memory.

        See `run_in_child`; what is told and may be stopped there is so here.
        """
        limit = self.options.memory_limit_mib
        return run_in_child(
            function,
            arguments,
            name=name,
            environment=environment,
            preload=preload,
            timeout_s=self.options.timeout_s,
            memory_limit_bytes=None if limit is None else limit << 20,
            hear=hear,
            stop=stop,
        )
