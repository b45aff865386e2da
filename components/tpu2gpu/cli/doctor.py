"""`tpu2gpu doctor`: what this machine can do, and why it cannot do the rest."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

import attrs
import click

from tpu2gpu._version import __version__
from tpu2gpu.command_line import Call, Command, Reply
from tpu2gpu.errors import EnvironmentLacksError, UsageError

_CLUSTER = "tpu2gpu_pipelines.kubeflow.cluster.diagnosing:diagnose"
_RIGHTS = "tpu2gpu_pipelines.kubeflow.cluster.rights:print_rights"
_PACKAGES = (
    "tensorflow", "keras", "tfx", "apache-beam", "kfp", "ml-metadata", "tf2onnx", "onnx", "onnxruntime", "polygraphy",
    "tensorrt-rtx-cu12-libs", "tensorrt", "tritonclient", "numpy", "protobuf",
)  # fmt: skip


@attrs.frozen
class Diagnosis:
    """What was found.

    Attributes:
        system: Python, machine and this package.
        packages: Version of each package; None where it is not installed.
        devices: CPU, GPUs and TPU.
        back_ends: For each back end of `convert`, whether it works, its version, and why not.
        healthy: Whether models can be converted at all.
    """

    system: dict[str, str]
    packages: dict[str, str | None]
    devices: dict[str, Any]
    back_ends: dict[str, dict[str, Any]]
    healthy: bool


def diagnose() -> Diagnosis:
    """Look at everything that the steps need. Loads no TensorFlow; what may crash is tried in a child process."""
    from tpu2gpu.hardware.cuda import find_gpus
    from tpu2gpu.hardware.host import stable_hardware
    from tpu2gpu.hardware.tpu import has_tpu
    from tpu2gpu.trt_converter.backends.choice import probe

    back_ends = {name: attrs.asdict(availability) for name, availability in probe().items()}
    hardware = stable_hardware()
    return Diagnosis(
        system={
            "tpu2gpu": __version__,
            "python": platform.python_version(),
            "executable": sys.executable,
            "machine": f"{platform.system()} {platform.machine()}",
            "libc": os.confstr("CS_GNU_LIBC_VERSION") or "not glibc",
        },
        packages={name: _version(name) for name in _PACKAGES},
        devices={
            "cpu": hardware["cpu"],
            "cores": hardware["cores"],
            "memory_gib": hardware["memory_gib"],
            "gpus": [attrs.asdict(gpu) for gpu in find_gpus()],
            "tpu": has_tpu() or bool(os.environ.get("TPU_NAME")),
        },
        back_ends=back_ends,
        healthy=back_ends["onnx"]["available"],
    )


def describe(found: Diagnosis) -> list[str]:
    """Tell the diagnosis to a reader."""
    devices = found.devices
    gpus = [f"{gpu['name']} (compute capability {gpu['compute_capability']})" for gpu in devices["gpus"]]
    lines = [f"{name:<12}{value}" for name, value in found.system.items()]
    lines += ["", f"CPU         {devices['cpu']}, {devices['cores']} cores, {devices['memory_gib']} GiB"]
    lines += [
        f"GPU         {', '.join(gpus) or 'none: engines are built, and ONNX Runtime on the CPU runs the models'}"
    ]
    lines += [f"TPU         {'yes' if devices['tpu'] else 'none: training runs on what TensorFlow finds'}"]
    lines += ["", "back end      works  version"]
    for name, one in found.back_ends.items():
        works = "yes" if one["available"] else "no"
        lines.append(f"{name:<14}{works:<7}{one['version'] or '–':<13}{one['reason']}".rstrip())
    lines += ["", "package                 version"]
    return lines + [f"{name:<24}{version or 'not installed'}" for name, version in found.packages.items()]


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _run(call: Call) -> Reply:
    if call.given["kubeflow"]:
        return _look_at_cluster(call)
    if call.given["settings"] or call.given["probe"] or call.given["rights"]:
        raise UsageError("--settings, --probe and --rights: are for --kubeflow", hint="give --kubeflow too")
    found = diagnose()
    return Reply(found, describe(found), exit_code=0 if found.healthy else EnvironmentLacksError.exit_code)


def _look_at_cluster(call: Call) -> Reply:
    try:
        look: Callable[..., Reply] = resolve_name(_RIGHTS if call.given["rights"] else _CLUSTER)
    except ModuleNotFoundError as error:
        raise EnvironmentLacksError(
            "--kubeflow: the package tpu2gpu_pipelines is not installed", hint="install tpu2gpu with its pipelines"
        ) from error
    if call.given["rights"]:
        return look(call.given["settings"])
    return look(call.given["settings"], probe=call.given["probe"], progress=call.progress)


DOCTOR = Command(
    name="doctor",
    summary="Tell what this machine can do, and why it cannot do the rest; with --kubeflow, the same of a cluster.",
    run=_run,
    parameters=(
        click.Option(
            ["--kubeflow"],
            is_flag=True,
            help="look at the cluster of the kubeconfig file, or that we run in: service account, claims, fsGroup, and "
            "whether steps can write their volumes",
        ),
        click.Option(["--settings"], metavar="FILE", help="the settings whose section kubeflow says what steps need"),
        click.Option(["--probe"], is_flag=True, help="start a pod of the steps' image that tries to write the volumes"),
        click.Option(
            ["--rights"],
            is_flag=True,
            help="print the accounts and rights that a training on several hosts needs, for kubectl apply",
        ),
    ),
)
