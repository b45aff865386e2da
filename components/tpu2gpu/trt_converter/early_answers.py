"""The source's outputs on what a conversion is compared on, computed by one process while another converts."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.process.judging import JUDGE_ENVIRONMENT, JUDGE_PRELOAD
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.examples.probes.find_domains import domains_of
from tpu2gpu.running.local.reference_runner import ReferenceRunner
from tpu2gpu.running.runner import Feeds, TensorSpec, check_feeds
from tpu2gpu.storage.unfinished import scratch
from tpu2gpu.trt_converter.feeds import feeds_for, run_reference, save_reference, saved_outputs
from tpu2gpu.trt_converter.request import MOST_BYTES, Request

_FACTS, _ENDED = "answers.json", "ended"
_POLL_S = 0.02


@contextmanager
def early_answers(request: Request, *, sizes: Sequence[Mapping[str, Any]]) -> Iterator[Path | None]:
    """Let a process of its own answer the requests that a conversion will be compared on.

    Args:
        request: The conversion.
        sizes: What to make requests of, see `feeds_for`.

    Returns:
        The folder of the answers, for an `AnsweredReference`; None for a source that is too large to be loaded twice.
    """
    if sum(path.stat().st_size for path in request.source.rglob("*") if path.is_file()) > MOST_BYTES:
        yield None
        return
    stop = threading.Event()
    with scratch() as folder:
        arguments = {
            "source": str(request.source.resolve()),
            "signature": request.options.signature,
            "trust": list(request.options.trust),
            "folder": str(folder),
            "sizes": list(sizes),
            "examples": list(request.options.examples),
            "reading": request.reading,
            "limit": request.example_limit,
        }
        thread = threading.Thread(target=_answer_in_child, args=(request, arguments, stop), daemon=True)
        thread.start()
        try:
            yield folder
        finally:
            stop.set()
            thread.join()


def _answer_in_child(request: Request, arguments: Mapping[str, Any], stop: threading.Event) -> None:
    try:
        with suppress(Tpu2GpuError):  # the conversion comes to what is wrong, and says so
            request.in_child(
                f"{__name__}:answer",
                "the source in TensorFlow",
                JUDGE_ENVIRONMENT,
                preload=JUDGE_PRELOAD,
                stop=stop,
                **arguments,
            )
    finally:
        Path(arguments["folder"], _ENDED).touch()


def answer(*, source: str, signature: str, trust: Sequence[str], folder: str, **requests: Any) -> None:
    """Run the source on a conversion's requests, and leave its outputs; all is plain data.

    Args:
        source: The SavedModel's folder.
        signature: Which signature.
        trust: What it may do besides computing.
        folder: Where to leave the outputs.
        requests: What `feeds_for` takes but for inputs and domains.

    Raises:
        Tpu2GpuError: See `ReferenceRunner`, `feeds_for` and `run_reference`.
    """
    reference = ReferenceRunner(source, signature=signature, trust=trust)
    feeds = feeds_for(reference.inputs, domains=domains_of(source, signature), **requests)
    feeds, outputs = run_reference(reference, feeds)
    for position, (batch, given) in enumerate(zip(feeds.batches, outputs, strict=True)):
        save_reference(Path(folder), position, batch, given)
    facts = {
        "inputs": [spec.to_json() for spec in reference.inputs],
        "outputs": [spec.to_json() for spec in reference.outputs],
        "widened": reference.widened,
        "computes": reference.computes,
        "answered": [_digest(batch) for batch in feeds.batches],
    }
    Path(folder, _FACTS).write_text(json.dumps(facts))


class AnsweredReference:
    """A reference whose answers may be there already; it is loaded only for a request that has none.

    Args:
        folder: What `early_answers` gave, whose end is waited for; without it the reference is loaded at once.
        load: Loads the reference, once at most.

    Attributes:
        widened: See `ReferenceRunner`.
        computes: The same.

    Raises:
        Tpu2GpuError: See `ReferenceRunner`.
    """

    kind = "saved_model"
    concurrency = 1

    def __init__(self, folder: Path | None, load: Callable[[], ReferenceRunner]) -> None:
        self._folder, self._load = folder, load
        self._loaded: ReferenceRunner | None = None
        self._answered: list[str] = []
        facts = {} if folder is None else _facts(folder)
        if not facts:
            loaded = self._reference()
            self.inputs, self.outputs = loaded.inputs, loaded.outputs
            self.widened, self.computes = loaded.widened, loaded.computes
            return
        self._answered = facts["answered"]
        self.inputs = tuple(map(TensorSpec.from_json, facts["inputs"]))
        self.outputs = tuple(map(TensorSpec.from_json, facts["outputs"]))
        self.widened, self.computes = tuple(facts["widened"]), str(facts["computes"])

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Return the answer that is there, or run the reference; see `Runner.run`."""
        if self._folder is not None and self._answered:
            digest = _digest(check_feeds(self.inputs, feeds, self._folder))
            if digest in self._answered:
                return saved_outputs(self._folder, self._answered.index(digest))
        return self._reference().run(feeds)

    def describe(self) -> dict[str, Any]:
        """Tell what runs, and on what."""
        return self._reference().describe()

    def close(self) -> None:
        """Let go of the model, where it was loaded."""
        if self._loaded is not None:
            self._loaded.close()

    def _reference(self) -> ReferenceRunner:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded


def _facts(folder: Path) -> dict[str, Any]:
    """Wait until all is answered; return nothing where that failed."""
    while not (folder / _ENDED).exists():
        time.sleep(_POLL_S)
    return dict(json.loads((folder / _FACTS).read_text())) if (folder / _FACTS).is_file() else {}


def _digest(feeds: Mapping[str, Array]) -> str:
    found = hashlib.sha256()
    for name, array in sorted(feeds.items()):
        values = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
        found.update(repr((name, str(array.dtype), array.shape, len(values))).encode())
        found.update(values)
    return found.hexdigest()
