"""What a launcher hands to a step, in the form that TFX's executors expect, and back again.

    launcher                                      executor
    artifacts without a type, or of a wider one   the type that the component declares
    artifacts that it does not declare            absent; outputs are handed back as they came
    gs://, s3://, minio:// URIs                   the folders under /gcs, /s3, /minio that the launcher fills
    oci:// URIs                                   the folder /models of an image, which the launcher mounts under /oci
    parameters that are null                      absent
    a parameter for each option                   one parameter `options`, as JSON
    promotion_uri of a pusher                     inside its push_destination

Source: https://github.com/kubeflow/pipelines, backend/src/v2/component/launcher_v2.go (LocalPathForURI, download and
upload of artifacts) and backend/src/v2/driver (toRuntimeArtifact, which gives no type).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tpu2gpu_pipelines.kubeflow.compiler.parameters import DESTINATION, PROMOTION

Message = dict[str, Any]

_MOUNTS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
_IMAGE = "oci://"  # an image whose folder /models a launcher mounts
_PAGES = ("system.HTML", "system.Markdown")
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_RUN = re.compile(rf"/([^/]+)/({_UUID})/[^/]+/{_UUID}/[^/]+$")


def local_path(uri: str) -> str:
    """Return where a launcher keeps what stands at a URI."""
    if uri.startswith(_IMAGE):
        return f"/oci/{uri.removeprefix(_IMAGE).replace('/', '_')}/models"
    for scheme, mount in _MOUNTS.items():
        if uri.startswith(scheme):
            return mount + uri.removeprefix(scheme)
    return uri


def adapt_input(given: Message, types: Message) -> tuple[Message, dict[str, str]]:
    """Make a launcher's input one that TFX's executors take.

    Args:
        given: The launcher's ExecutorInput; changed in place.
        types: The component's inputs, with the types of its artifacts.

    Returns:
        The input, and the URI of each local path in it.
    """
    uris = {}
    declared = {key: spec["artifactType"] for key, spec in types.get("artifacts", {}).items()}
    for side in ("inputs", "outputs"):
        for key, artifact in artifacts_of(given.get(side, {})):
            path = local_path(artifact.get("uri", ""))
            uris[path], artifact["uri"] = artifact.get("uri", ""), path
            if side == "inputs" and key in declared:  # a driver drops the type, or gives a more general one
                artifact["type"] = dict(declared[key])
    outputs = given.get("outputs", {})
    if "outputFile" in outputs:
        outputs["outputFile"] = local_path(outputs["outputFile"])
    for parameter in outputs.get("parameters", {}).values():
        parameter["outputFile"] = local_path(parameter.get("outputFile", ""))
    _adapt_parameters(given.setdefault("inputs", {}).setdefault("parameterValues", {}))
    return given, uris


def set_apart(given: Message, inputs: Message, outputs: Message) -> Message:
    """Take away what the component does not declare, such as the logs that a driver has each step put out.

    An output gets the type that the component declares, where Kubeflow knows none or only a more general one.

    Args:
        given: The launcher's ExecutorInput; changed in place.
        inputs: The component's inputs, with the types of its artifacts.
        outputs: The types of the artifacts that it puts out.

    Returns:
        The outputs that are not its own, as they came.
    """
    declared = inputs.get("artifacts", {})
    artifacts = given.get("inputs", {}).get("artifacts", {})
    for key in [key for key in artifacts if key not in declared]:
        del artifacts[key]
    artifacts = given.get("outputs", {}).get("artifacts", {})
    foreign = {key: artifacts.pop(key) for key in [key for key in artifacts if key not in outputs]}
    for key, artifact in artifacts_of(given.get("outputs", {})):
        artifact["type"] = dict(outputs[key])
    return foreign


def gather_options(given: Message, names: Collection[str]) -> None:
    """Put parameters that are options into the one text that a component of TFX takes.

    Those that are null keep the default of their class.

    Args:
        given: The launcher's ExecutorInput; changed in place.
        names: The options that are parameters; none where the component has one text for all.
    """
    values = given.setdefault("inputs", {}).setdefault("parameterValues", {})
    found = {name: _whole(values.pop(name)) for name in names if name in values}
    if names:
        said = {name: value for name, value in found.items() if value is not None}
        values["options"] = json.dumps(said, sort_keys=True, separators=(",", ":"))


def _whole(value: Any) -> Any:
    """Give numbers back the type that JSON has taken from them: options that are no integers take integers too."""
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def names_in_uris(given: Message) -> tuple[str, str]:
    """Find the pipeline's name and the run's id where outputs go, `ROOT/PIPELINE/RUN/STEP/<uuid>/ARTIFACT`.

    Args:
        given: The launcher's ExecutorInput.

    Returns:
        Both; empty where outputs go elsewhere, as in KFP's local runner.
    """
    for _, artifact in artifacts_of(given.get("outputs", {})):
        if found := _RUN.search(artifact.get("uri", "")):
            return found[1], found[2]
    return "", ""


def adapt_output(written: Message, given: Message, uris: dict[str, str]) -> Message:
    """Make an executor's output one that a launcher takes, and each page one file, as the dashboard reads it.

    Args:
        written: The executor's ExecutorOutput; changed in place.
        given: The input that it had.
        uris: The URI of each local path.
    """
    titles = {key: artifact.get("type", {}).get("schemaTitle") for key, artifact in artifacts_of(given["outputs"])}
    for key, artifact in artifacts_of(written):
        if titles.get(key) in _PAGES:
            _make_one_file(Path(artifact["uri"]))
        artifact["uri"] = uris.get(artifact["uri"], artifact["uri"])
        metadata = artifact.get("metadata", {})
        artifact["metadata"] = {name: _flat(value) for name, value in metadata.items() if value is not None}
    return written


def artifacts_of(side: Message) -> Iterator[tuple[str, Message]]:
    """Return the artifacts of the inputs or the outputs, with their keys."""
    for key, value in side.get("artifacts", {}).items():
        for artifact in value.get("artifacts", []):
            yield key, artifact


def _adapt_parameters(values: Message) -> None:
    for name in [name for name, value in values.items() if value is None]:
        del values[name]
    if DESTINATION in values and (folder := values.pop(PROMOTION, "")):
        destination = json.loads(values[DESTINATION])
        destination.setdefault("filesystem", {})["base_directory"] = local_path(folder)
        values[DESTINATION] = json.dumps(destination)


def _make_one_file(folder: Path) -> None:
    """Put `index.html` in the place of the folder that it lies in."""
    page = folder / "index.html"
    if not page.is_file():
        return
    content = page.read_bytes()
    shutil.rmtree(folder)
    folder.write_bytes(content)


def _flat(value: Any) -> str | int | float | bool:
    """Flatten a value as ML Metadata holds it: lists and tables as JSON text."""
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, sort_keys=True)
