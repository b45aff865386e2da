"""The folder in which a step and the workers that it launched hand each other inputs and results.

{training.checkpoint_root}/job-sets/{name of the JobSet}/
    step.json             what the workers shall do: executor, its input, the types of the component's inputs
    inputs/KEY/NUMBER/    input artifacts that the workers could not read where they lie
    outputs/KEY/          what the first worker put out
    done.json             what its executor said; written last, so that it is there only with all outputs

TensorFlow's own file systems do it, for they are those that a TPU's hosts read their examples by.
"""

from __future__ import annotations

import json
import posixpath
from pathlib import Path
from typing import Any

from tpu2gpu_pipelines.kubeflow.container.executor_input import Message, artifacts_of

_READ_IN_PLACE = "gs://"
_CHUNK = 1 << 24


class Exchange:
    """The folder of one JobSet.

    Args:
        root: `training.checkpoint_root`.
        name: The JobSet's name.
    """

    def __init__(self, root: str, name: str) -> None:
        self.uri = f"{root.rstrip('/')}/job-sets/{name}"

    @classmethod
    def at(cls, uri: str) -> Exchange:
        """Open the folder that a step has made."""
        root, _, name = uri.removesuffix("/").rpartition("/job-sets/")
        return cls(root, name)

    def hand_over(self, executor: str, given: Message, types: str, uris: dict[str, str]) -> None:
        """Put down what the workers shall do, and the inputs that they could not read where they lie.

        Args:
            executor: Path of the executor's class.
            given: The step's ExecutorInput with local paths; stays as it is.
            types: The component's inputs, as JSON.
            uris: The URI of each local path.
        """
        self.remove()
        for_workers: Message = json.loads(json.dumps(given))
        for number, (key, artifact) in enumerate(artifacts_of(for_workers.get("inputs", {}))):
            path = artifact["uri"]
            uri = uris.get(path) or path
            if not uri.startswith(_READ_IN_PLACE):
                uri = f"{self.uri}/inputs/{key}/{number}"
                copy_tree(path, uri)
            artifact["uri"] = uri
        self._write("step.json", {"executor": executor, "given": for_workers, "types": types})

    def read_step(self) -> tuple[str, Message, str]:
        """Read what the workers shall do: executor, its input with the step's own output paths, types."""
        step = self._read("step.json")
        return step["executor"], step["given"], step["types"]

    def put_result(self, written: Message) -> None:
        """Put down the outputs, which lie on this machine, and then that they are there.

        Args:
            written: The executor's ExecutorOutput.
        """
        for key, artifact in artifacts_of(written):
            _remove_tree(f"{self.uri}/outputs/{key}")
            copy_tree(artifact["uri"], f"{self.uri}/outputs/{key}")
        self._write("done.json", written)

    def is_done(self) -> bool:
        """Tell whether the first worker has put down all that it made."""
        import tensorflow as tf

        return bool(tf.io.gfile.exists(f"{self.uri}/done.json"))

    def take_result(self, given: Message) -> Message:
        """Bring the outputs to where a step's own executor would have put them.

        Args:
            given: The step's ExecutorInput with local paths.

        Returns:
            The ExecutorOutput.
        """
        written = self._read("done.json")
        places = {key: artifact["uri"] for key, artifact in artifacts_of(given["outputs"])}
        for key, artifact in artifacts_of(written):
            _remove_tree(places[key])
            copy_tree(f"{self.uri}/outputs/{key}", places[key])
            artifact["uri"] = places[key]
        return written

    def remove(self) -> None:
        """Take the folder away, and the one above it where it was the last."""
        import tensorflow as tf

        _remove_tree(self.uri)
        above = Path(posixpath.dirname(self.uri))
        if "://" not in self.uri and above.is_dir() and not any(above.iterdir()):
            tf.io.gfile.rmtree(str(above))

    def _write(self, name: str, content: Any) -> None:
        import tensorflow as tf

        tf.io.gfile.makedirs(self.uri)
        path = f"{self.uri}/{name}"
        with tf.io.gfile.GFile(f"{path}.partial", "w") as file:
            file.write(json.dumps(content))
        tf.io.gfile.rename(f"{path}.partial", path, overwrite=True)

    def _read(self, name: str) -> Message:
        import tensorflow as tf

        with tf.io.gfile.GFile(f"{self.uri}/{name}", "r") as file:
            content: Message = json.loads(file.read())
        return content


def copy_tree(source: str, target: str) -> None:
    """Copy a folder with all that it holds, or a file; either may lie in an object store. An absent one stays absent.

    Args:
        source: What to copy.
        target: Where it shall be.
    """
    import tensorflow as tf

    if not tf.io.gfile.isdir(source):
        if tf.io.gfile.exists(source):
            _copy_file(source, target)
        return
    tf.io.gfile.makedirs(target)
    for folder, _, names in tf.io.gfile.walk(source):
        below = folder.removeprefix(source).strip("/")
        here = posixpath.join(target, below) if below else target
        tf.io.gfile.makedirs(here)
        for name in filter(None, names):  # a marker of an object store's folder has no name
            _copy_file(posixpath.join(folder, name), posixpath.join(here, name))


def _copy_file(source: str, target: str) -> None:
    import tensorflow as tf

    tf.io.gfile.makedirs(posixpath.dirname(target))
    with tf.io.gfile.GFile(source, "rb") as found, tf.io.gfile.GFile(target, "wb") as made:
        while chunk := found.read(_CHUNK):
            made.write(chunk)


def _remove_tree(path: str) -> None:
    import tensorflow as tf

    if tf.io.gfile.isdir(path):
        tf.io.gfile.rmtree(path)
    elif tf.io.gfile.exists(path):
        tf.io.gfile.remove(path)
