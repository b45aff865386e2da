"""What a run is asked for with, now or by a schedule: a version, an experiment and run parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.options import did_you_mean
from tpu2gpu_pipelines.kubeflow.api.server import Server
from tpu2gpu_pipelines.kubeflow.api.uploading import Version, find_experiment, upload_version
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline

_READ: dict[str, Callable[[Any], Any]] = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": float,
    "BOOLEAN": lambda value: {"true": True, "false": False}[str(value).lower()],
}


@attrs.frozen(kw_only=True)
class RunRequest:
    """A run that the server can be asked for.

    Attributes:
        experiment: The id of the experiment that it belongs to.
        version: The pipeline version that it runs.
        parameters: Run parameters that differ from their defaults, in their declared types.
        service_account: As which the steps run; the installation's own when empty.
    """

    experiment: str
    version: Version
    parameters: dict[str, Any]
    service_account: str

    def arguments(self, name: str) -> dict[str, Any]:
        """Return the arguments of the client's methods that start a run, or have it started.

        Args:
            name: What the dashboard calls it.
        """
        return {
            "experiment_id": self.experiment,
            "job_name": name,
            "params": self.parameters,
            "pipeline_id": self.version.pipeline_id,
            "version_id": self.version.version_id,
            "service_account": self.service_account or None,
        }


def prepare_run(
    server: Server, compiled: CompiledPipeline, parameters: Mapping[str, Any], service_account: str
) -> RunRequest:
    """Check the run parameters, find the experiment, and upload the pipeline if need be.

    Args:
        server: Where to.
        compiled: The pipeline.
        parameters: Run parameters that differ from their defaults.
        service_account: As which the steps run.

    Raises:
        UsageError: There is no such run parameter.
        InputError: There is no such experiment.
        RemoteRunError: The server refuses.
    """
    return RunRequest(
        parameters=check_parameters(compiled, parameters),
        experiment=find_experiment(server, compiled.name),
        version=upload_version(server, compiled),
        service_account=service_account,
    )


def check_parameters(compiled: CompiledPipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """Read run parameters in the types that the pipeline declares.

    Args:
        compiled: The pipeline.
        given: Names and values; texts are read as numbers where numbers are declared.

    Raises:
        UsageError: There is no such parameter, or a value is not of its type.
    """
    declared = compiled.spec["root"].get("inputDefinitions", {}).get("parameters", {})
    wrong, values = [], {}
    for name, value in given.items():
        if name not in declared:
            hint = did_you_mean(name, declared) or f"there are {', '.join(sorted(declared)) or 'none'}"
            wrong.append(f"{name}: no such run parameter; {hint}")
            continue
        try:
            values[name] = _READ[declared[name]["parameterType"]](value)
        except (KeyError, ValueError):
            wrong.append(f"{name} '{value}': must be {declared[name]['parameterType']}")
    if wrong:
        raise UsageError("run parameters", details=wrong)
    return values


def parameter_of(compiled: CompiledPipeline, name: str, given: Mapping[str, Any]) -> str:
    """Return the value of a run parameter in a run; empty where the pipeline has none of that name."""
    declared = compiled.spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return str(given.get(name, declared.get(name, {}).get("defaultValue", "")))


def split_parameters(words: tuple[str, ...]) -> dict[str, str]:
    """Split `NAME=VALUE` words into names and values.

    Raises:
        UsageError: A word has another form.
    """
    wrong = [word for word in words if not word.partition("=")[1]]
    if wrong:
        raise UsageError(f"--parameter {wrong[0]}: must be NAME=VALUE")
    return {name: value for name, _, value in (word.partition("=") for word in words)}
