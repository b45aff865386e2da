"""The parent's side of a measurement: one model's process, its failure where it fails, and its files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tpu2gpu.errors import SourceError, Tpu2GpuError, TrustRefusedError
from tpu2gpu.latency_evaluator.partition import PartitionFigures, partition_of
from tpu2gpu.process.judging import REFERENCE_ENVIRONMENT
from tpu2gpu.process.worker import Worker
from tpu2gpu.running.arrays import Array, load_arrays
from tpu2gpu.running.local.external_data import check_external_data
from tpu2gpu.running.opening import slow_imports_of
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.running.servers.addresses import is_address, name_of_model, parse_address
from tpu2gpu.running.servers.server_file import is_server_file, model_files
from tpu2gpu.running.serving_plan import PLAN, Part, read_plan
from tpu2gpu.storage.paths import files_below
from tpu2gpu.storage.publishing import MANIFEST, REPORT, make_manifest, sha256_of, verify_model

_REQUESTS_AT_ONCE = 64  # requests in one call, each call with the time limit to itself
_REQUEST_SHARE = 0.9  # of the time limit, after which a client itself says that its server hangs
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # TensorFlow would take the whole GPU away from the candidates
}

_JUDGES = {**REFERENCE_ENVIRONMENT, "NVIDIA_TF32_OVERRIDE": "0"}


class ModelProcess:
    """A model in its own process.

    A failing reference raises. A failing candidate notes what happened in `failure`, its process is ended, and
    nothing more is asked of it. `unverified` says how its files differ from its manifest, where it was loaded anyway.

    Args:
        path: The model.
        label: What reports call it.
        is_reference: Whether all others are held against it.
        timeout_s: How long it may take to load, and for every block of requests.
        judges: Whether it gives the outputs that others are compared with, and is not timed: the same weights in
            float32, without oneDNN and TF32.

    Raises:
        SourceError: There is nothing at `path`.
    """

    def __init__(
        self, path: str | os.PathLike[str], label: str, *, is_reference: bool, timeout_s: float, judges: bool = False
    ) -> None:
        self.given = os.fspath(path)
        self.label = label
        self.failure: str | None = None
        self.unverified = ""
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        self.description: dict[str, Any] = {}
        self._is_reference = is_reference
        self._timeout_s = timeout_s
        self._judges = judges
        self._worker: Worker | None = None
        self._peak_rss_bytes: int | None = None
        self.name = name_of_model(path)
        self._files: Path | None = None
        if is_address(path):
            parse_address(self.given)
        elif not Path(path).exists():
            raise SourceError(f"{path}: no such file or folder", hint=f"give the {label}'s folder")
        else:
            self._files = model_files(path)

    @property
    def runs(self) -> bool:
        """True while it is loaded and has not failed."""
        return self._worker is not None and self.failure is None

    def load(
        self,
        signature: str,
        threads: int,
        cpus: Sequence[int],
        trust: Sequence[str] = (),
        *,
        unverified: bool = False,
    ) -> None:
        """Start the process on some CPU cores and load the model there, if its files are those of its manifest."""
        try:
            self._digest  # noqa: B018 - looked up once, and kept
        except Tpu2GpuError as error:
            if not unverified:
                self.fail("its files were checked", error)
                return
            self.unverified = error.message
        arguments = {
            "path": self.given,
            "signature": signature,
            "threads": threads,
            "cpus": list(cpus),
            "timeout_s": _REQUEST_SHARE * self._timeout_s,
            "trust": list(trust),
            "unverified": unverified,
            "judges": self._judges,
        }
        try:
            self._worker = Worker(
                "tpu2gpu.latency_evaluator.measure.model_under_test:ModelUnderTest",
                arguments,
                name=self.label,
                environment={**ENVIRONMENT, **(_JUDGES if self._judges else {})},
                preload=slow_imports_of(self.given),
                timeout_s=self._timeout_s,
            )
        except Tpu2GpuError as error:
            self.fail("loading", error)
            return
        self.description = self.ask("loading", "describe") or {}
        self.inputs = tuple(TensorSpec.from_json(spec) for spec in self.description.get("inputs", ()))
        self.outputs = tuple(TensorSpec.from_json(spec) for spec in self.description.get("outputs", ()))

    def ask(self, doing: str, method: str, **arguments: Any) -> Any:
        """Call a method of the `ModelUnderTest`; None once the model has failed.

        Raises:
            SourceError: It is the reference that failed.
        """
        if self._worker is None or self.failure is not None:
            return None
        try:
            result = self._worker.call(method, timeout_s=self._timeout_s, **arguments)
        except Tpu2GpuError as error:
            self.fail(doing, error)
            return None
        self._peak_rss_bytes = self._worker.peak_rss_bytes
        return result

    def predict(self, count: int, batch_size: int, scratch: Path) -> dict[str, Array] | None:
        """Compute the outputs to all examples, one array an output; None where the model fails."""
        step = _REQUESTS_AT_ONCE * batch_size
        for start in range(0, count, step):
            stop = min(start + step, count)
            self.ask("predicting", "predict", start=start, stop=stop, batch_size=batch_size)
        file = scratch / f"{self.label.replace(' ', '-')}.npz"
        self.ask("predicting", "write_outputs", path=str(file), batch_size=batch_size)
        return load_arrays(file) if self.runs else None

    def fail(self, doing: str, error: Tpu2GpuError) -> None:
        """Take note of a failure.

        Raises:
            SourceError: It is the reference that failed.
            TrustRefusedError: The reference would do more than compute.
        """
        self.close()
        if self._is_reference:
            kind = TrustRefusedError if isinstance(error, TrustRefusedError) else SourceError
            raise kind(
                f"the reference failed while {doing}: {error.message}", details=error.details, hint=error.hint
            ) from error
        # Of the child's log, the last line says most.
        last = f" ({error.details[-1].strip()})" if error.details and error.details[-1] not in error.message else ""
        failure = f"failed while {doing}: {error.message}{last}"
        self.failure = failure.replace(self.given, self.name)  # a verdict tells of models, not of where they lay

    @property
    def process(self) -> int | None:
        """Process id of the model under test."""
        return self.description.get("process")

    @property
    def peak_rss_bytes(self) -> int | None:
        """Largest resident memory of its process up to its last response; of a server, if it was started here."""
        if self.description.get("runner", {}).get("kind") == "server":
            found: int | None = self.ask("telling its memory", "server_peak_rss_bytes")
            return found
        return self._peak_rss_bytes

    def digest(self) -> str | None:
        """Return the SHA-256 over all its files: that of its manifest where it has one.

        None behind an address, and where the files are not those of the manifest.
        """
        try:
            return self._digest
        except Tpu2GpuError:
            return None

    @cached_property
    def _digest(self) -> str | None:
        files = self._files
        if files is None:
            return sha256_of(Path(self.given)) if is_server_file(self.given) else None
        if (files / MANIFEST).is_file():
            return str(verify_model(files)["digest"])
        if files.is_dir():
            return str(make_manifest(files, {})["digest"])
        return sha256_of(files, *_external_data(files))

    def folder_bytes(self) -> int | None:
        """Return the size of all its files; None where there are none here."""
        return None if self._files is None else _size(self._files)

    def model_bytes(self) -> int | None:
        """Return the size of the files that were run: of a serving folder the engine or the ONNX file alone."""
        files = self._files
        if files is None:
            return None
        if not (files / PLAN).is_file():
            beside = sum(_size(files / name) for name in (MANIFEST, REPORT)) if files.is_dir() else 0
            return _size(files) - beside
        runs_engine = self.description.get("runner", {}).get("runs") == "engine"
        ran = (part.saved_model or (part.engine.file if runs_engine else None) or part.onnx for part in self._parts)
        return sum(_size(files / name) for name in ran if name)

    def partition(self) -> PartitionFigures | None:
        """Return the parts of a serving folder's model; None where it is in one, and for other kinds."""
        try:
            return partition_of(read_plan(self._files)) if self._files and (self._files / PLAN).is_file() else None
        except Tpu2GpuError:
            return None

    @property
    def _parts(self) -> tuple[Part, ...]:
        """Parts of a serving folder's plan; none for other kinds, and where it is damaged."""
        try:
            return () if self._files is None else read_plan(self._files).parts
        except Tpu2GpuError:
            return ()

    @property
    def has_engine(self) -> bool:
        """True where an engine lies among its files."""
        return any(part.engine.file for part in self._parts)

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def _size(path: Path) -> int:
    if path.is_file():
        return sum(file.stat().st_size for file in (path, *_external_data(path)))
    return sum(files_below(path).values())


def _external_data(file: Path) -> list[Path]:
    """Find the files beside an ONNX file that hold its tensors; loading tells where they are unsound."""
    try:
        return check_external_data(file)
    except SourceError:
        return []
