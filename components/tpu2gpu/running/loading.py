"""`tpu2gpu.load`: a converted model, ready to run, without TFX."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tpu2gpu.running.opening import open_runner
from tpu2gpu.running.runner import Runner


def load(
    folder: str | os.PathLike[str],
    *,
    signature: str = "serving_default",
    threads: int | None = None,
    trust: Sequence[str] = (),
    unverified: bool = False,
) -> Runner:
    """Load a model, and return what runs it.

    >>> model = tpu2gpu.load("serving/digits")  # doctest: +SKIP
    >>> model.run({"images": images})["probabilities"]  # [batch, classes]  # doctest: +SKIP

    A serving folder's engine runs where a GPU that it was built for is present, and ONNX Runtime elsewhere;
    `describe()` says which, and why.

    Args:
        folder: A serving folder, a SavedModel's folder or an ONNX file.
        signature: Which signature of a SavedModel.
        threads: How many threads compute; the library's own choice when None.
        trust: What a graph of TensorFlow may do besides computing: `files`, `network`, `python`, `custom`.
        unverified: Load files also where they are not those that the manifest beside them lists.

    Raises:
        ManifestError: Files are not those that the manifest lists.
        SourceError: There is no model of a known kind there, or it is damaged.
        SignatureError: The SavedModel has no such signature.
        TrustRefusedError: It would do more than it may; nothing of it was run.
        EnvironmentLacksError: A library that the model needs is not there.
    """
    return open_runner(folder, signature=signature, threads=threads, trust=trust, unverified=unverified)
