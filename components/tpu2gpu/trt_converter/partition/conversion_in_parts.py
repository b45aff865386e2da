"""A conversion in parts: each is run in TensorFlow, converted where it can be, and the chain of all is compared."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import ConversionError, ParityRefusedError, UnsupportedError, foreign_errors
from tpu2gpu.graphs.formats.saved_model import write_saved_model
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.running import serving_plan
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.comparison.tolerances import conversion_tolerance
from tpu2gpu.running.examples.probes.find_domains import find_domains
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.running.local.reference_runner import ReferenceRunner
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.running.runner import Runner
from tpu2gpu.trt_converter.early_answers import AnsweredReference
from tpu2gpu.trt_converter.feeds import feeds_for, run_reference, save_reference
from tpu2gpu.trt_converter.judge.chain import decided_otherwise
from tpu2gpu.trt_converter.judge.coverage import not_exercised
from tpu2gpu.trt_converter.onnx import convert as onnx
from tpu2gpu.trt_converter.parity import always_empty, check_finite, check_parity, compare_box_by_box, worst_of
from tpu2gpu.trt_converter.partition.part import ModelPart, Partition

PARTS_FOLDER = "parts"
Written = Callable[[dict[str, Any]], None]
_SAME = 1e-5  # relative: the parts in TensorFlow, compared with the whole in TensorFlow


class ConversionInParts:
    """A conversion in parts.

    Args:
        source: The SavedModel's folder.
        arguments: What `onnx.convert` takes for the whole model.
        model: The model as a flat graph.
        partition: Its parts.
    """

    def __init__(self, source: str, arguments: dict[str, Any], model: ServingModel, partition: Partition) -> None:
        self._source, self._arguments, self._partition = source, arguments, partition
        self._folder = Path(arguments["onnx_path"]).parent / PARTS_FOLDER
        self._references = Path(arguments["reference_folder"])
        answers = arguments.get("answers")
        load = partial(ReferenceRunner, source, signature=arguments["signature"], trust=arguments["trust"])
        self._reference = AnsweredReference(None if answers is None else Path(answers), load)
        self._feeds = feeds_for(
            self._reference.inputs,
            domains=find_domains(model, arguments["signature"]),
            **{name: arguments[name] for name in ("sizes", "examples", "reading", "limit")},
        )

    def run(self) -> dict[str, Any]:
        """Convert, and return what `convert_parts.convert` does."""
        started = time.perf_counter()
        self._feeds, outputs = run_reference(self._reference, self._feeds)
        missed = not_exercised(
            self._source, self._arguments["signature"], self._feeds.batches, trust=self._arguments["trust"]
        )
        self._feeds = attrs.evolve(self._feeds, not_exercised=(*always_empty(outputs), *missed))
        check_finite(outputs, self._feeds.origin)
        tensors: list[dict[str, Array]] = [dict(batch) for batch in self._feeds.batches]
        runners: dict[str, Runner] = {part.name: self._in_tensorflow(part, tensors) for part in self._partition.parts}
        same = conversion_tolerance(self._reference.widened[0]) if self._reference.widened else _SAME
        check_parity(self._compare(outputs, tensors), same, "the model, cut into parts,")
        written = time.perf_counter()
        core = self._to_onnx("core", Path(self._arguments["onnx_path"]), self._references, self._core_written())
        described = {part.name: self._describe(part, runners[part.name], tensors) for part in self._partition.parts}
        described["core"] = attrs.evolve(
            described["core"], onnx=Path(self._arguments["onnx_path"]).name, saved_model=None, ops=core["ops"]
        )
        in_tensorflow = dict(runners)
        runners["core"] = OnnxRunner(self._arguments["onnx_path"], providers=["CPUExecutionProvider"])
        if "post" in runners:
            described["post"], runners["post"] = self._post_to_onnx(described["post"], runners["post"])
        again: list[dict[str, Array]] = [dict(batch) for batch in self._feeds.batches]
        for part in self._partition.parts:
            with foreign_errors(ConversionError, f"the part {part.name} does not run where the source does"):
                for batch in again:
                    batch.update(runners[part.name].run({name: batch[name] for name in part.takes}))
        parity = self._compare(outputs, again)
        asked = self._arguments["tolerance"]
        tolerance = conversion_tolerance(core["weights_dtype"]) if asked is None else asked
        post = next((part.model for part in self._partition.parts if part.name == "post"), None)
        if core["findings"] or decided_otherwise(parity, core["parity"], tolerance, post):
            parity = self._compare_given(core["parity"], again, in_tensorflow)
        batched = self._batched(tensors)
        shutil.rmtree(self._folder / "core")
        facts = {
            "inputs": [spec.to_json() for spec in self._reference.inputs],
            "outputs": [spec.with_rank(outputs[0][spec.name].ndim).to_json() for spec in self._reference.outputs],
            "output_tensors": self._partition.output_tensors,
            "parts": [described[part.name].to_json() for part in self._partition.parts],
            "parity": parity,
            "core_share": self._partition.report["core_share"],
            "boundary_tensors": self._partition.report["boundary_tensors"],
            "partition_s": written - started,
        }
        return {
            **core,
            "batched": batched,
            "compared_on": self._feeds.compared_on,
            "feeds": self._feeds.describe(),
            "partition": facts,
            "whole_because": "",
        }

    def _in_tensorflow(self, part: ModelPart, tensors: list[dict[str, Array]]) -> Runner:
        """Write a part as a SavedModel, run it, and leave what it took and gave to compare its conversion with."""
        settle_shapes(part, self._arguments["signature"], tensors)
        home = self._folder / part.name
        home.mkdir(parents=True)
        trust = self._arguments["trust"]
        write_saved_model(part.model, home, trust=trust)
        runner = SavedModelRunner(home, signature=self._arguments["signature"], trust=trust)
        judge: Runner = runner
        if self._reference.widened and part.name != "pre":
            judge = ReferenceRunner(home, signature=self._arguments["signature"], trust=trust)
        for position, batch in enumerate(tensors):
            taken = {name: batch[name] for name in part.takes}
            given = judge.run(taken)
            if part.name != "pre":
                save_reference(self._reference_folder(part.name), position, taken, given)
            batch.update(given)
        return runner

    def _reference_folder(self, name: str) -> Path:
        folder = self._references if name == "core" else self._references / name
        folder.mkdir(exist_ok=True)
        return folder

    def _core_written(self) -> Written | None:
        written, inputs = self._arguments.get("written"), [spec.to_json() for spec in self._reference.inputs]
        return None if written is None else lambda about: written({**about, "partition": {"inputs": inputs}})

    def _to_onnx(self, name: str, path: Path, references: Path, written: Written | None = None) -> dict[str, Any]:
        arguments = {
            **self._arguments,
            "onnx_path": str(path),
            "reference_folder": str(references),
            "given": str(references),
            "written": written,
            "answers": None,
        }
        return onnx.convert(source=str(self._folder / name), **arguments)

    def _post_to_onnx(self, described: serving_plan.Part, in_tensorflow: Runner) -> tuple[serving_plan.Part, Runner]:
        """Put the last part into ONNX Runtime where it converts, and gives the same; else leave it in TensorFlow."""
        home = self._folder / "post.onnx"
        home.mkdir()
        path = home / "model.onnx"
        try:
            found = self._to_onnx("post", path, self._reference_folder("post"))
            check_parity(found["parity"], conversion_tolerance("float32"), "the last part in ONNX Runtime")
        except (ConversionError, ParityRefusedError, UnsupportedError) as error:
            shutil.rmtree(home)
            return attrs.evolve(described, in_tensorflow_because=error.message), in_tensorflow
        shutil.rmtree(self._folder / "post")
        home.rename(self._folder / "post")
        onnx_file = f"{PARTS_FOLDER}/post/model.onnx"
        runner = OnnxRunner(self._folder / "post" / "model.onnx", providers=["CPUExecutionProvider"])
        return attrs.evolve(described, onnx=onnx_file, saved_model=None, ops=found["ops"]), runner

    def _describe(self, part: ModelPart, runner: Runner, tensors: Sequence[Mapping[str, Array]]) -> serving_plan.Part:
        report = next(each for each in self._partition.report["parts"] if each["name"] == part.name)
        return serving_plan.Part(
            **{**report, "unsupported": tuple(report["unsupported"])},
            runs_on="cpu",
            saved_model=f"{PARTS_FOLDER}/{part.name}",
            inputs=tuple(spec.with_rank(tensors[0][spec.name].ndim) for spec in runner.inputs),
            outputs=tuple(spec.with_rank(tensors[0][spec.name].ndim) for spec in runner.outputs),
            onnx_names=serving_plan.OnnxNames(*({name: name for name in names} for names in (part.takes, part.gives))),
            in_tensorflow_because="; ".join(report["unsupported"]),
        )

    def _compare(
        self, outputs: Sequence[Mapping[str, Array]], tensors: Sequence[Mapping[str, Array]]
    ) -> dict[str, Any]:
        names = self._partition.output_tensors
        pairs = zip(outputs, tensors, strict=True)
        return worst_of([compare_box_by_box(a, {name: found[names[name]] for name in a}) for a, found in pairs])

    def _compare_given(
        self, core: Mapping[str, Any], again: Sequence[Mapping[str, Array]], in_tensorflow: Mapping[str, Runner]
    ) -> dict[str, Any]:
        """Compare part by part behind decisions that come out otherwise: what follows takes the core's outputs.

        Args:
            core: How far the core's outputs are off, by tensor.
            again: The tensors that the converted parts gave.
            in_tensorflow: What runs each part in TensorFlow.
        """
        expected: list[dict[str, Array]] = [dict(batch) for batch in again]
        for part in self._partition.parts:
            if part.name == "post":
                for batch in expected:
                    batch.update(in_tensorflow["post"].run({name: batch[name] for name in part.takes}))
        names = self._partition.output_tensors
        given = [{name: batch[tensor] for name, tensor in names.items()} for batch in expected]
        parity = self._compare(given, again)
        return {name: core.get(names[name], figures) for name, figures in parity.items()}

    def _batched(self, tensors: Sequence[Mapping[str, Array]]) -> bool:
        if not all(spec.shape and spec.shape[0] is None for spec in self._reference.inputs):
            return False
        sizes = [len(batch[self._reference.inputs[0].name]) for batch in tensors]
        return all(
            array.ndim and len(array) == size
            for batch, size in zip(tensors, sizes, strict=True)
            for array in batch.values()
        )


def settle_shapes(part: ModelPart, signature: str, tensors: Sequence[Mapping[str, Array]]) -> None:
    """Give boundary tensors whose number of dimensions TensorFlow cannot tell the one that was seen."""
    for name, info in part.model.signatures[signature].inputs.items():
        if info.tensor_shape.unknown_rank and name in tensors[0]:
            info.tensor_shape.unknown_rank = False
            for _ in range(tensors[0][name].ndim):
                info.tensor_shape.dim.add(size=-1)
            node = part.model.nodes[info.name.partition(":")[0]]
            node.attr["shape"].shape.CopyFrom(info.tensor_shape)
