"""The steps of an optimization, each taken from the cache where all that made it is the same."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.hardware.host import available_cores, installed_versions, stable_hardware
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.measure.model_process import ENVIRONMENT
from tpu2gpu.optimizer.cache import CachedRefusalError, StepCache
from tpu2gpu.optimizer.candidates import FULL, INT8, Candidate
from tpu2gpu.optimizer.content import digest_of_code, digest_of_examples, digest_of_source, digests_of_named
from tpu2gpu.optimizer.options import OptimizeOptions
from tpu2gpu.optimizer.results import StepDone
from tpu2gpu.options import recorded
from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.process.judging import JUDGE_ENVIRONMENT, JUDGE_PRELOAD
from tpu2gpu.process.worker import prepare_children
from tpu2gpu.progress import Progress
from tpu2gpu.running.servers.addresses import is_address
from tpu2gpu.running.servers.server_file import is_server_file
from tpu2gpu.sources.digest import named_modules
from tpu2gpu.storage.paths import place
from tpu2gpu.storage.publishing import name_of, read_manifest
from tpu2gpu.trt_converter.backends.base import back_end
from tpu2gpu.trt_converter.converting import convert_model

IMPORTED, EVALUATION = "imported", "evaluation"


class Chain:
    """The steps of one run; what was done stands in `steps`, and where it lies in `outputs`.

    Args:
        source: What is imported.
        examples: Files of examples; none where requests are synthetic.
        incumbent: What is promoted now.
        options: What is asked.
        cache: Former outputs.
        progress: Told what is being done.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        examples: Sequence[str],
        incumbent: str | os.PathLike[str] | None,
        options: OptimizeOptions,
        cache: StepCache,
        progress: Progress,
    ) -> None:
        self._source, self._examples, self._incumbent = source, tuple(examples), incumbent
        self._options, self._cache, self._progress = options, cache, progress
        self._examples_digest = digest_of_examples(examples, options.labels) if examples else ""
        self._code: dict[tuple[str, ...], str] = {}
        self.steps: list[StepDone] = []
        self.outputs: dict[str, Path] = {}

    def import_(self) -> Path:
        """Import the source."""
        options = self._options.of_import()
        source = place(self._source)
        if options.checkpoint_name:
            source = source / options.checkpoint_name
        digest, named = digest_of_source(source), digests_of_named(options, ("checkpoint_name",))
        made_of = {"name": name_of(source), "source": digest, "named": named}
        known = None not in (digest, *named.values())
        return self._take("import", IMPORTED, import_model, self._source, options, made_of, known=known)

    def freeze(self, imported: Path, precision: str) -> Path:
        """Cast the imported model where the precision asks for it, and freeze it."""
        if precision not in (FULL, INT8):
            options = self._options.of_cast(precision, self._examples)
            made_of = {"examples": self._examples_digest if options.examples else ""}
            imported = self._take("cast", f"cast-{precision}", cast_model, imported, options, made_of)
        width = FULL if precision == INT8 else precision
        return self._take("freeze", f"frozen-{width}", freeze_model, imported, self._options.of_freeze(), {})

    def convert(self, frozen: Path, candidate: Candidate) -> Path:
        """Convert a frozen model with a candidate's back end."""
        options = self._options.of_convert(candidate, self._examples)
        made_of = {
            "examples": self._examples_digest if options.examples else "",
            "hardware": stable_hardware() if back_end(candidate.backend).builds_engine else {},
        }
        return self._take("convert", candidate.name, convert_model, frozen, options, made_of)

    def evaluate(self, imported: Path, candidates: Sequence[Path]) -> Path:
        """Measure all candidates against the imported model, and judge them."""
        options = self._options.of_evaluate()
        incumbent = self._digest_of_incumbent()
        made_of = {
            "examples": self._examples_digest,
            "candidates": [[path.name, read_manifest(path)["digest"]] for path in candidates],
            "incumbent": [self._incumbent is not None, incumbent],
            "hardware": {**stable_hardware(), "available": available_cores()},
        }

        def evaluate(reference: Path, target: Path, options: Any, *, progress: Progress) -> None:
            evaluate_model(
                reference, candidates, self._examples, target, options, incumbent=self._incumbent, progress=progress
            )

        known = self._incumbent is None or incumbent is not None
        return self._take("evaluate", EVALUATION, evaluate, imported, options, made_of, known=known)

    def _digest_of_incumbent(self) -> str | None:
        """Return the digest of its files; None where there is none, and where it is behind an address."""
        if self._incumbent is None or is_address(self._incumbent) or is_server_file(self._incumbent):
            return None
        return digest_of_source(place(self._incumbent))

    def _take(
        self,
        step: str,
        name: str,
        function: Callable[..., object],
        source: str | os.PathLike[str],
        options: Any,
        made_of: Mapping[str, Any],
        *,
        known: bool = True,
    ) -> Path:
        """Take a step's output from the cache, or make it.

        Args:
            step: The step's command.
            name: What its output is called.
            function: Makes it.
            source: What it is made of.
            options: The step's options.
            made_of: What else decides it, as plain data.
            known: Whether that can be told from here; otherwise it is made anew.
        """
        if name in self.outputs:  # two candidates of one graph
            return self.outputs[name]

        def make(target: Path) -> None:
            # A new model is cast and converted next, and its candidates measured: TensorFlow loads meanwhile.
            if step != "evaluate":
                prepare_children(JUDGE_ENVIRONMENT, JUDGE_PRELOAD)
            if step == "convert":
                prepare_children(ENVIRONMENT, ("tensorflow",))
            function(source, target, options, progress=self._told(name))

        by_content = ("examples", *made_of.get("named", ()))
        told = {name: value for name, value in recorded(options).items() if name not in by_content}
        key = {
            **made_of,
            "code": self._digest_of_code(step, options) if self._cache.lasts else "",
            "options": told,
            "versions": installed_versions(),
            "made_of": None if step == "import" else read_manifest(source)["digest"],
            "once": None if known else uuid.uuid4().hex,
        }
        try:
            output = self._cache.take(step, name, key, make)
        except CachedRefusalError as refusal:
            self.steps.append(StepDone(step, name, cached=True))
            raise refusal.error from None
        except Tpu2GpuError:
            self.steps.append(StepDone(step, name, cached=False))
            raise
        self.steps.append(StepDone(step, name, output.cached))
        self.outputs[name] = output.path
        return output.path

    def _digest_of_code(self, step: str, options: Any) -> str:
        """Return the digest of a step's code, which this process has loaded and does not load again."""
        key = step, *named_modules(options)
        if key not in self._code:
            self._code[key] = digest_of_code(_MODULES[step], options)
        return self._code[key]

    def _told(self, name: str) -> Progress:
        return lambda what, done, total: self._progress(f"{name}: {what}", done, total)


_MODULES = {
    "import": "tpu2gpu.checkpoint_importer.importing",
    "cast": "tpu2gpu.precision_caster.casting",
    "freeze": "tpu2gpu.freezer.freezing",
    "convert": "tpu2gpu.trt_converter.converting",
    "evaluate": "tpu2gpu.latency_evaluator.evaluating",
}
"""The module of each step's function, whose sources count."""
