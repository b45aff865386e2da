"""Review of what a server that we start would load: it runs what lies in its model's folder."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.graphs.assets import check_assets
from tpu2gpu.graphs.formats.saved_model import SAVED_MODEL_FILE, parse_saved_model
from tpu2gpu.graphs.op_classes import OpClass
from tpu2gpu.graphs.soundness.graph import check_meta_graph
from tpu2gpu.graphs.trust.policy import require_trust
from tpu2gpu.graphs.trust.review import Finding, review_meta_graph
from tpu2gpu.running.local.external_data import check_external_data
from tpu2gpu.storage.folders import below
from tpu2gpu.storage.publishing import MANIFEST, read_manifest, verify_model
from tpu2gpu.storage.verifying import check_listed

_ONNX = ".onnx"
# Files that servers run as they are, by their endings.
_PROGRAMS: dict[str, OpClass] = {
    ".py": "python",
    ".pyc": "python",
    ".pt": "custom",
    ".so": "custom",
    ".cpb": "unknown",  # a SavedModel in pieces, which servers prefer to the one beside it
    ".plan": "engine",
    ".engine": "engine",
    ".graphdef": "unknown",
    ".pbtxt": "unknown",
}
_CONFIGURATION = "config.pbtxt"
# What has Triton take programs from files of any name, and letters that are spelled as numbers.
_CONFIGURED_PROGRAMS = re.compile(rb"op_library_filename|model_filename|execution_env_path|\\", re.IGNORECASE)


def review_served(model: Path, trust: Collection[str], *, unverified: bool) -> None:
    """Check that a server may load a model's files.

    What a SavedModel would do is reviewed wherever it lies. Python, engines and libraries are taken where they are
    those that the folder's manifest lists.

    Args:
        model: The file or the folder.
        trust: What the user trusts.
        unverified: Take files also where they are not those that the manifest lists.

    Raises:
        TrustRefusedError: They would do more than the user trusts; all of it is listed.
        ManifestError: They are not those that the manifest lists.
        SourceError: One is damaged, or names files outside its folder.
    """
    home = _home_of(model)
    if home is not None and not unverified:
        verify_model(home)
    paths = sorted(below(model)) if model.is_dir() else [model]
    require_trust(list(_findings(model, paths, home, unverified=unverified)), trust, model)


def _home_of(model: Path) -> Path | None:
    """Return the folder with the manifest, which may lie above the part that the server loads."""
    for folder in (model, *model.absolute().parents):
        if (folder / MANIFEST).is_file():
            with suppress(Tpu2GpuError):  # somebody else's
                read_manifest(folder)
                return folder
    return None


def _findings(model: Path, paths: list[Path], home: Path | None, *, unverified: bool) -> Iterator[Finding]:
    for path in paths:
        if not path.is_file():
            continue
        name = path.relative_to(model).as_posix() if path != model else path.name
        if path.name == SAVED_MODEL_FILE:
            for meta in parse_saved_model(path.parent).meta_graphs:
                check_meta_graph(meta, path.parent)
                yield from (it for it in review_meta_graph(meta) if it.does != "engine" or home is None or unverified)
                check_assets(meta, path.parent)
        elif path.suffix == _ONNX:
            check_external_data(path)
        elif path.name == _CONFIGURATION:
            if _CONFIGURED_PROGRAMS.search(path.read_bytes()) and not _is_listed(home, path):
                yield Finding(name, path.name, "", "custom")
        elif path.suffix in _PROGRAMS and not _is_listed(home, path):
            yield Finding(name, path.suffix, "", _PROGRAMS[path.suffix])


def _is_listed(home: Path | None, path: Path) -> bool:
    if home is None:
        return False
    try:
        check_listed(home, [path.absolute().relative_to(home.absolute()).as_posix()])
    except Tpu2GpuError:
        return False
    return True
