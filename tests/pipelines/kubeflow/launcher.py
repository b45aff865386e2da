"""Kubeflow's driver and launcher, as far as a step can tell: what they hand over, and what they take.

Written from their source (kubeflow/pipelines, backend/src/v2/driver and backend/src/v2/component), and from that of
KFP's local runner:

    driver     gives inputs an empty type, metadata as the artifact has it with words of its own beside it; outputs a
               URI with a uuid below the pipeline root; and every step an output more than it declares, for its log
    launcher   keeps artifacts under /minio and the like; makes the parents of outputs, not the outputs; adds defaults
               of the component's parameters (addDefaultParams)
    local      gives everything its type, plain paths as URIs, the same parents, and null for what has no default
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs

from tpu2gpu_pipelines.kubeflow.compiler.specification import Spec, Step, steps_of
from tpu2gpu_pipelines.kubeflow.container.entrypoint import run_step

_LOGS = "executor-logs"


@attrs.define
class Launcher:
    """Runs the steps of a compiled pipeline in this process, one after the other.

    Attributes:
        spec: The pipeline specification.
        root: Where outputs go: a URI, or a path for the local runner's manner.
        mounts: The folder that stands for a scheme: `{"minio://": folder}`.
        run: The run's id.
        arguments: Run parameters.
    """

    spec: Spec
    root: str
    mounts: Mapping[str, Path]
    run: str = "5e4f0a52-run"
    arguments: Mapping[str, Any] = {}
    made: dict[tuple[str, str], dict[str, Any]] = attrs.field(factory=dict)
    given: dict[str, dict[str, Any]] = attrs.field(factory=dict)

    @property
    def is_local(self) -> bool:
        return "://" not in self.root

    def run_all(self) -> None:
        """Runs every step after those that it needs."""
        waiting = {step.name: step for step in steps_of(self.spec)}
        while waiting:
            name = next(
                name for name, step in waiting.items() if not set(step.task.get("dependentTasks", ())) & set(waiting)
            )
            self.run_step(waiting.pop(name))

    def step(self, name: str) -> Step:
        """The step of this name."""
        return next(step for step in steps_of(self.spec) if step.name == name)

    def run_step(self, step: Step) -> dict[str, Any]:
        """Runs one step, keeps what it put out, and returns what it wrote for the launcher."""
        if "importer" in step.executor:
            (uri,) = self._parameters(step).values()
            artifact = {"uri": uri, "metadata": step.executor["importer"].get("metadata", {})}
            self.made[step.name, "artifact"] = artifact
            return artifact
        self.given[step.name] = given = self.executor_input(step)
        arguments = step.executor["container"]["args"]
        uuid = self.run if self.is_local else "{{$.pipeline_job_uuid}}"  # the launcher leaves this one alone
        resolved = [
            {"{{$}}": json.dumps(given), "{{$.pipeline_job_uuid}}": uuid}.get(argument, argument)
            for argument in arguments
        ]
        written = run_step(resolved)
        on_disk = json.loads(Path(given["outputs"]["outputFile"]).read_text())
        assert on_disk == written
        if not self.is_local:
            assert on_disk["artifacts"].pop(_LOGS) == given["outputs"]["artifacts"][_LOGS]
        for key, value in on_disk.get("artifacts", {}).items():
            (artifact,) = value["artifacts"]
            assert artifact["uri"] == given["outputs"]["artifacts"][key]["artifacts"][0]["uri"]
            _check_metadata(artifact["metadata"])
            self.made[step.name, key] = artifact
        for key, value in on_disk.get("parameterValues", {}).items():
            self.made[step.name, key] = value
        return written

    def executor_input(self, step: Step) -> dict[str, Any]:
        """What the step is handed."""
        folder = f"{self.root}/{self.run}/{step.name}" + ("" if self.is_local else f"/{uuid4()}")
        definitions = step.component.get("outputDefinitions", {})
        outputs: dict[str, Any] = {"outputFile": str(self.path_of(f"{folder}/executor_output.json"))}
        outputs["artifacts"] = {
            key: {
                "artifacts": [
                    {"name": key, "type": definition["artifactType"], "uri": f"{folder}/{key}", "metadata": {}}
                ]
            }
            for key, definition in definitions.get("artifacts", {}).items()
        }
        outputs["parameters"] = {
            key: {"outputFile": str(self.path_of(f"{folder}/{key}"))} for key in definitions.get("parameters", {})
        }
        if not self.is_local:
            logs = {"name": _LOGS, "type": {"schemaTitle": "system.Artifact"}, "uri": f"{folder}/{_LOGS}"}
            outputs["artifacts"][_LOGS] = {"artifacts": [logs]}
        for key in [*outputs["artifacts"], "executor_output.json"]:
            self.path_of(f"{folder}/{key}").parent.mkdir(parents=True, exist_ok=True)
        inputs = {key: {"artifacts": [artifact]} for key, artifact in self._artifacts(step)}
        return {"inputs": {"parameterValues": self._parameters(step), "artifacts": inputs}, "outputs": outputs}

    def path_of(self, uri: str) -> Path:
        """The file or folder of a URI."""
        for scheme, folder in self.mounts.items():
            if uri.startswith(scheme):
                return folder / uri.removeprefix(scheme)
        return Path(uri)

    def _artifacts(self, step: Step) -> Iterator[tuple[str, dict[str, Any]]]:
        for number, (key, source) in enumerate(step.task.get("inputs", {}).get("artifacts", {}).items()):
            output = source["taskOutputArtifact"]
            made = self.made[output["producerTask"], output["outputArtifactKey"]]
            artifact = {
                "name": str(number + 1),
                "uri": made["uri"],
                "metadata": {"display_name": output["outputArtifactKey"], **made["metadata"]},
                "type": {"instanceSchema": ""},
            }
            if not self.is_local:
                artifact["metadata"]["store_session_info"] = '{"Provider":"minio"}'
            if self.is_local:
                artifact["type"] = step.component["inputDefinitions"]["artifacts"][key]["artifactType"]
            yield key, artifact

    def _parameters(self, step: Step) -> dict[str, Any]:
        declared = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        values: dict[str, Any] = {}
        for key, parameter in step.component.get("inputDefinitions", {}).get("parameters", {}).items():
            if "defaultValue" in parameter or (self.is_local and parameter.get("isOptional")):
                values[key] = parameter.get("defaultValue")
        for key, source in step.task.get("inputs", {}).get("parameters", {}).items():
            if name := source.get("componentInputParameter"):
                values[key] = self.arguments.get(name, declared[name].get("defaultValue"))
            elif output := source.get("taskOutputParameter"):
                values[key] = self.made[output["producerTask"], output["outputParameterKey"]]
            else:
                values[key] = source["runtimeValue"]["constant"]
        return values


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    """What the launcher's StructValueToMLMDValue takes."""
    for name, value in metadata.items():
        assert isinstance(value, str | int | float | bool), f"{name}: {value!r}"
