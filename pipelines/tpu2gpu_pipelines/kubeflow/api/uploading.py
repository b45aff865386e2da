"""Versions of a pipeline on a server: each is named by its content, so that the same one is there once."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import attrs

from tpu2gpu.errors import InputError
from tpu2gpu.options import did_you_mean
from tpu2gpu_pipelines.kubeflow.api.server import Server, named
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline

_NAME_LENGTH = 12


@attrs.frozen
class Version:
    """A version on the server.

    Attributes:
        pipeline_id: Of the pipeline.
        version_id: Of the version.
        name: The beginning of the SHA-256 of its content.
        reused: Whether it had been there before.
    """

    pipeline_id: str
    version_id: str
    name: str
    reused: bool


def upload_version(server: Server, compiled: CompiledPipeline) -> Version:
    """Upload a pipeline, unless this very content is there.

    Args:
        server: Where to.
        compiled: The pipeline.

    Raises:
        RemoteRunError: The server refuses.
    """
    text = compiled.to_yaml()
    name = hashlib.sha256(text.encode()).hexdigest()[:_NAME_LENGTH]
    client, namespace = server.client, server.options.namespace or None
    there = server.pages(client.list_pipelines, "pipelines", filter=named(compiled.name), namespace=namespace)
    pipeline_id = next((it.pipeline_id for it in there), None)
    if pipeline_id:
        versions = server.pages(
            client.list_pipeline_versions, "pipeline_versions", pipeline_id=pipeline_id, filter=named(name)
        )
        if version_id := next((it.pipeline_version_id for it in versions), None):
            return Version(pipeline_id, version_id, name, reused=True)
    with tempfile.TemporaryDirectory(prefix="tpu2gpu-upload-") as folder, server.request_errors():
        path = Path(folder) / "pipeline.yaml"
        path.write_text(text, encoding="utf-8")
        if not pipeline_id:
            pipeline_id = server.create_pipeline(compiled.name)
        version = client.upload_pipeline_version(str(path), pipeline_version_name=name, pipeline_id=pipeline_id)
    return Version(pipeline_id, version.pipeline_version_id, name, reused=False)


def find_experiment(server: Server, pipeline: str) -> str:
    """Return the id of the experiment that runs belong to; that of the pipeline's name is made if need be.

    Args:
        server: Where it is.
        pipeline: The pipeline's name.

    Raises:
        InputError: The experiment that was asked for is not there.
        RemoteRunError: The server refuses.
    """
    name, namespace = server.options.experiment, server.options.namespace or None
    client = server.client
    if not name:
        with server.request_errors():
            return str(client.create_experiment(pipeline, namespace=namespace).experiment_id)
    found = {
        it.display_name: it.experiment_id
        for it in server.pages(client.list_experiments, "experiments", namespace=namespace)
    }
    if name not in found:
        hint = did_you_mean(name, found) or f"there are {', '.join(sorted(found)) or 'none'}"
        raise InputError(f"experiment '{name}': not on the server; {hint}", hint="leave --experiment out to make one")
    return str(found[name])
