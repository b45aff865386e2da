"""The serving folder's README: what each file is, and which server loads what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tpu2gpu.running.serving_plan import CORE, Engine, OnnxNames, Part, Plan
from tpu2gpu.trt_converter.layouts.tf_serving import Servable
from tpu2gpu.trt_converter.layouts.triton import REPOSITORY, TritonModel

RUNTIMES = {17: ("1.12", "22.07"), 18: ("1.14", "23.04")}
"""An ONNX Runtime and a Triton that read each opset that tf2onnx writes, all with IR version 8.

Source: ONNX Runtime 1.12.1 reads opset 17 and refuses 18, 1.13.1 as well, 1.14.1 reads both (tried);
https://onnxruntime.ai/docs/reference/compatibility.html. Triton 22.07 has ONNX Runtime 1.12.0, 23.04 has 1.14.1:
TRITON_VERSION_MAP in build.py of https://github.com/triton-inference-server/server, branches r22.07 and r23.04.
"""

_TRIED = "24.10 (2.51)"  # the Triton that the emitted repositories are tested with

_PLACES = {"pre": "what comes before model.onnx", "post": "what comes after it"}

_PYTHON = """```python
import tpu2gpu

model = tpu2gpu.load("this/folder")
outputs = model.run(feeds)  # arrays by name
print(model.describe())  # what runs, and why
```"""


def summary(plan: Plan, verification: str, why_no_engine: str) -> list[str]:
    """Return the first lines of the report: what was made, and how far it was verified.

    Args:
        plan: The plan.
        verification: How far it was verified, in a sentence of the back end.
        why_no_engine: Why there is no engine; empty where there is one.
    """
    lines = [verification]
    lines.append(
        f"Largest difference from the source: {plan.relative_error:.2g} of the largest value, on "
        f"{plan.compared_on}; {plan.tolerance:g} is allowed at {plan.dtype}."
    )
    if plan.core.engine.file:
        lines.append(f"The engine is for {_gpus(plan.core.engine)}; others run {plan.core.onnx}.")
    elif why_no_engine:
        lines.append(f"No engine: {why_no_engine}.")
    if plan.suppression:
        lines.append(str(plan.suppression))
    return lines


def _gpus(engine: Engine) -> str:
    """Name the GPUs that an engine is for."""
    if engine.gpu:
        return f"the {engine.gpu}"
    names = [f"{name[:-1]}.{name[-1]}" for name in engine.compute_capabilities if not name.endswith("+")]
    names += [f"{name[:-2]}.{name[-2]} and newer" for name in engine.compute_capabilities if name.endswith("+")]
    return f"GPUs of compute capability {', '.join(names)}"


def readme_sections(
    plan: Plan,
    rows: Sequence[str],
    lines: Sequence[str],
    more: Sequence[str],
    triton: TritonModel | None,
    servable: Servable | None,
) -> list[str]:
    """Write the paragraphs of README.md.

    Args:
        plan: The plan.
        rows: The back end's rows of the table of files.
        lines: What `summary` says.
        more: The back end's further paragraphs.
        triton: What a Triton server is told; None without a model repository.
        servable: What TensorFlow Serving is given; None without.
    """
    others = [each for each in plan.parts if each.name != CORE]
    sections = [
        "# A model to serve",
        " ".join(lines),
        "\n".join(_files(rows, others, triton, servable)),
        *more,
        "## Signature",
        "\n".join(_tensors(plan)),
        "## In Python",
        _PYTHON,
    ]
    if others:
        sections += ["## Parts", _parts(plan)]
    if triton is not None:
        sections += ["## In Triton", _triton(triton, plan.core, others)]
    if servable is not None:
        sections += ["## In TensorFlow Serving", _tf_serving(servable, plan)]
    return sections


def _files(
    rows: Sequence[str], others: Sequence[Part], triton: TritonModel | None, servable: Servable | None
) -> list[str]:
    """Return the table of files: what each is, and what loads it."""
    table = ["| file | what it is | what loads it |", "|---|---|---|", *rows]
    for other in others:
        how = "ONNX Runtime" if other.onnx else "TensorFlow"
        table.append(f"| `{other.onnx or other.saved_model}` | {_PLACES[other.name]} | {how}, on the CPU |")
    if triton is not None:
        home = f"{REPOSITORY}/{triton.name}/"
        table.append(f"| `{home}` | Triton model, back end `{triton.backend}` | Triton Inference Server |")
        table.append("| `kserve.yaml` | an InferenceService that follows promotions; fill in the claim | KServe |")
        if others:
            whole = triton.name.removesuffix("_core")
            table.append(f"| `{REPOSITORY}/{whole}/` | the parts, chained: ask this one | Triton Inference Server |")
    if servable is not None:
        requests = f", and {servable.requests} requests to warm up" * bool(servable.requests)
        table.append(f"| `{servable.path}/` | {servable.model}, as it is{requests} | TensorFlow Serving |")
        table.append("| `kserve.yaml` | an InferenceService that follows promotions; fill in the claim | KServe |")
    table.append("| `plan.json` | which part runs where, what was verified | `tpu2gpu.load` |")
    table.append("| `report.json` | figures of the conversion | people and dashboards |")
    table.append("| `manifest.json` | SHA-256 of every file | `tpu2gpu verify` |")
    return table


def _tf_serving(servable: Servable, plan: Plan) -> str:
    name = Path(servable.path).parent.name
    warm_up = (
        f"It runs {servable.requests} requests of real examples before it calls the model ready."
        if servable.requests
        else "It has no requests to warm up with: convert with `--examples` to give it some."
    )
    version = ".".join(plan.versions["tensorflow"].split(".")[:2])
    runs = (
        f"the source SavedModel in TensorFlow, not the ONNX file and not an engine: serve it with TensorFlow Serving "
        f"{version} or newer"
        if plan.core.onnx
        else f"{servable.model} in TensorFlow"
    )
    return (
        f"```\ntensorflow_model_server --model_name={name} --model_base_path=this/folder/{Path(servable.path).parent}\n"
        f"```\n\n{warm_up} It runs {runs}."
    )


def _tensors(plan: Plan) -> list[str]:
    """List the inputs and outputs, with their other names in ONNX and Triton."""
    names = plan.core.onnx_names if len(plan.parts) == 1 else OnnxNames({}, plan.output_tensors)
    sides = (("Input", plan.inputs, names.inputs), ("Output", plan.outputs, names.outputs))
    lines = []
    for side, specs, others in sides:
        for spec in specs:
            other = others.get(spec.name, spec.name)
            note = "" if other == spec.name else f" (named `{other}` in ONNX and Triton)"
            if spec.default is not None:
                note += f"; `tpu2gpu.load` takes {spec.default} where a request leaves it out, ONNX and Triton want it"
            lines.append(f"- {side} `{spec}`{note}")
    return lines


def _parts(plan: Plan) -> str:
    """Tell which part does what, and what flows between them."""
    rows = ["| part | FLOPs for one example | why it is no part of model.onnx |", "|---|---|---|"]
    for part in plan.parts:
        why = "; ".join(part.unsupported) or "model.onnx itself"
        rows.append(f"| `{part.name}` | {part.flops_per_example:,} | {why.replace('|', '/')} |")
    flows = [
        f"- `{each.name}`, from `{each.producer}` to {' and '.join(f'`{name}`' for name in each.consumers)}: "
        f"{each.bytes_per_example:,} bytes for one example"
        for each in plan.boundary_tensors
    ]
    return "\n".join(rows) + "\n\n" + "\n".join(flows)


def _runtimes(core: Part) -> str:
    """Return a table of the oldest versions that are known to read model.onnx."""
    runtime, server = RUNTIMES[core.opset or 0]
    return (
        "| opset | IR version | ONNX Runtime | Triton, back end `onnxruntime` |\n|---|---|---|---|\n"
        f"| {core.opset} | {core.ir_version} | {runtime} or newer | {server} or newer |"
    )


def _triton(model: TritonModel, core: Part, others: Sequence[Part]) -> str:
    paragraphs = [f"```\ntritonserver --model-repository=this/folder/{REPOSITORY}\n```"]
    if model.backend != "tensorrt":
        paragraphs.append(_runtimes(core))
    if single := model.single_numbers:
        paragraphs.append(
            f"Triton has no empty shapes: {', '.join(f'`{name}`' for name in single)}, one number for each example, is "
            "[?, 1] for its clients."
        )
    for part in others:
        library = "onnxruntime" if part.onnx else "tensorflow"
        paragraphs.append(
            f"`{part.name}` runs in the back end `python`, which needs `numpy` and `{library}` in the "
            f"server's Python; its file is tested with Triton {_TRIED}."
        )
    if model.backend == "tensorrt":
        paragraphs.append(
            "The back end `tensorrt` is part of NVIDIA's Triton containers. It loads an engine of the very TensorRT "
            "that the container carries, on the GPUs named above, and no other: look both up in NVIDIA's support "
            "matrix before you choose a container, or convert inside the one that will serve."
        )
        return "\n\n".join(paragraphs)
    if model.backend == "python":
        paragraphs.append(
            "The back end `python` runs `1/model.py`, which needs `numpy` and `onnxruntime` in the server's Python. "
            f"Every Triton has this back end; the file is tested with Triton {_TRIED}."
        )
        return "\n\n".join(paragraphs)
    paragraphs.append(
        "The back end `onnxruntime` is part of NVIDIA's Triton containers. On a GPU it lets TensorRT build an engine "
        "for that very GPU when it loads the model, which takes from seconds to minutes, and keeps it in "
        f"`{model.engine_cache}`: mount a volume there, so that it outlives the server. The name holds the digest of "
        "model.onnx and its weights, so that new weights never meet an old engine. On a CPU it runs as it is."
    )
    if model.dtype == "float16":
        paragraphs.append(
            "The type is in model.onnx. The configuration says `precision_mode: FP16` as well, because TensorRT "
            "up to version 10 refuses a float16 model otherwise; version 11 has no such mode any more."
        )
    return "\n\n".join(paragraphs)
