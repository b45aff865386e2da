"""Output folders that appear whole or not at all, with a manifest of what is in them."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from tpu2gpu._version import __version__
from tpu2gpu.errors import (
    InputError,
    ManifestError,
    OutputExistsError,
    SourceError,
    Tpu2GpuError,
    UsageError,
)
from tpu2gpu.options import recorded
from tpu2gpu.plain_json import parse_json
from tpu2gpu.storage.confinement import open_regular, strange_entries
from tpu2gpu.storage.digested_file import take_digest
from tpu2gpu.storage.folders import check_length, make_folder
from tpu2gpu.storage.full_disks import why_full
from tpu2gpu.storage.paths import Place, files_below, place
from tpu2gpu.storage.unfinished import moved_aside, open_as_usual, remove_left_behind, unfinished
from tpu2gpu.storage.whole_files import read_plain_text

MANIFEST = "manifest.json"
REPORT = "report.json"
SIGNATURE = "model.sig"
_FORMAT = 1
_CHUNK_BYTES = 256 << 10  # what is read stays in the processor's cache until it is hashed
_WHOLE_BYTES = 64 << 20
_ARTIFACT = "Format-Serving"  # where a TFX artifact holds its model
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_DONE = {"import": "imported", "cast": "cast", "freeze": "frozen", "unfreeze": "unfrozen", "convert": "converted"}


@attrs.define
class Staging:
    """A folder in the making.

    Attributes:
        folder: Where to write the files.
        report: What the step found out; becomes `report.json`, also when the step is refused.
        about: What the manifest says beside the files (the step, its options, its source).
    """

    folder: Path
    report: dict[str, Any] = attrs.field(factory=dict)
    about: dict[str, Any] = attrs.field(factory=dict)


@contextmanager
def publish(target: str | os.PathLike[str], *, force: bool = False, about: dict[str, Any]) -> Iterator[Staging]:
    """Give a folder to write into, and move it to `target` in one step when the block ends well.

    When the block raises, nothing appears at `target`; what had been found by then is left beside it as
    `TARGET.report.json`. A folder that must stay (where a volume is mounted, or the current one) is filled, its
    manifest last.

    Args:
        target: The output folder. An empty folder may be there already, or a link to one.
        force: Replace an existing output.
        about: What the manifest says of the step that wrote the folder.

    Raises:
        OutputExistsError: `target` is there, is not empty, and `force` was not given or would replace a folder that
            is no output of ours.
        InputError: Its path is too long.
        UsageError: Nothing can be written there.
        EnvironmentLacksError: There is no room for all of it.
    """
    target = Path(os.path.realpath(target))
    check_length(target)
    remove_left_behind(target)
    check_free(target, force=force)
    refusal = target.with_name(target.name + ".report.json")
    with _beside(target) as folder:
        staging = Staging(folder, about=dict(about))
        try:
            yield staging
            write_json(folder / REPORT, staging.report)
            write_json(folder / MANIFEST, make_manifest(folder, staging.about))
            open_as_usual(folder)
            _move(folder, target, force=force)
            refusal.unlink(missing_ok=True)
        except BaseException as error:
            full = why_full(error, target, folder)
            shutil.rmtree(folder, ignore_errors=True)
            if full is not None:
                raise full from error
            if staging.report and isinstance(error, Tpu2GpuError):
                write_json(refusal, {**staging.report, "refused": error.to_json()})
            raise


def publish_step(
    step: str,
    source: dict[str, Any],
    target: str | os.PathLike[str],
    options: Any,
    *,
    force: bool,
    run_name: str,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> AbstractContextManager[Staging]:
    """Publish what a step makes of a source; see `publish`.

    Args:
        step: The step's command.
        source: What the manifest says of the source, from `describe_source`.
        target: The output folder.
        options: The step's options.
        force: Replace an existing output.
        run_name: The pipeline run.
        more: What else the manifest says.
    """
    from tpu2gpu.hardware.host import installed_versions, stable_hardware

    made = {"versions": installed_versions(), "hardware": stable_hardware()}
    about = {"step": step, "options": recorded(options), "source": source, "run": run_name, **made, **more}
    return publish(target, force=force, about=about)


def check_free(target: Path, *, force: bool) -> None:
    """Check that an output can be written to `target`.

    Raises:
        OutputExistsError: Something is there, and `force` was not given, or what is there is no output of ours.
        UsageError: A file is there.
    """
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target}: a file is there, but the output is a folder", hint="choose another TARGET")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not force:
        raise OutputExistsError(f"{target}: exists already", hint="choose another TARGET or give --force")
    if not (target / MANIFEST).is_file():
        raise OutputExistsError(
            f"{target}: holds no {MANIFEST}, so it is no output that may be replaced",
            hint="choose another TARGET, or remove it first",
        )


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Make an empty folder in the same parent, so that it can be renamed to the target."""
    with ExitStack() as stack:
        try:
            make_folder(target.parent)
            folder = stack.enter_context(unfinished(target))
        except OSError as error:
            full = why_full(error, target)
            raise full or UsageError(
                f"{target}: cannot be written ({error.strerror})", hint="choose another TARGET"
            ) from error
        yield folder


def _move(folder: Path, target: Path, *, force: bool) -> None:
    check_free(target, force=force)  # another run may have been faster
    if os.path.ismount(target) or target == Path.cwd():
        _fill(folder, target)
        return
    with moved_aside(target, folder) if target.exists() else nullcontext():
        folder.rename(target)


def _fill(folder: Path, target: Path) -> None:
    for path in sorted(target.iterdir(), key=lambda path: path.name != MANIFEST):  # without it, nothing there is whole
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST):
        shutil.move(path, target / path.name)
    folder.rmdir()


def plain(value: Any) -> Any:
    """Turn a record's public fields, paths and numbers into JSON's types; NaN and infinities become strings."""
    if attrs.has(type(value)):
        public = [field.name for field in attrs.fields(type(value)) if not field.name.startswith("_")]
        return {name: plain(getattr(value, name)) for name in public}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if isinstance(value, os.PathLike) else value


def write_json(path: Path, data: Any) -> None:
    """Write JSON that a person can read and a diff can compare."""
    path.write_text(json.dumps(plain(data), indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256_of(*paths: Place) -> str:
    """Return the SHA-256 of a file's bytes, or of several files' one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def make_manifest(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """List a folder's files with their digests.

    Returns:
        `files` (path, size_bytes, sha256), their common `digest`, and what `about` says.
    """
    from tpu2gpu.hardware.host import available_cores

    sizes = _listed(folder)
    with ThreadPoolExecutor(available_cores(), thread_name_prefix="digest") as pool:  # hashing frees Python's lock
        digests = pool.map(lambda path: take_digest(folder / path) or sha256_of(folder / path), sizes)
        files = [
            {"path": path, "size_bytes": size_bytes, "sha256": digest}
            for (path, size_bytes), digest in zip(sizes.items(), digests, strict=True)
        ]
    return {"format": _FORMAT, "tpu2gpu": __version__, **about, "files": files, "digest": _digest_of(files)}


def _digest_of(files: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a folder's manifest; entries that are null are left out.

    Raises:
        SourceError: There is none.
        ManifestError: It is damaged.
    """
    path = place(folder) / MANIFEST
    if not path.is_file():
        raise SourceError(f"{folder}: no {MANIFEST} there", hint="give a folder that tpu2gpu wrote")
    try:
        manifest: dict[str, Any] = parse_json(read_plain_text(path))
        _check_form(manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{path}: not a manifest ({error})") from error
    return {key: value for key, value in manifest.items() if value is not None}


_FORMS: dict[str, type] = {"digest": str, "files": list}
_OPTIONAL_FORMS: dict[str, type] = {
    "step": str,
    "run": str,
    "options": dict,
    "source": dict,
    "versions": dict,
    "tpu2gpu": str,
}
_FILE_FORMS: dict[str, type] = {"path": str, "size_bytes": int, "sha256": str}


def _check_form(manifest: Any) -> None:
    """Raise a ValueError where a manifest lacks an entry, or has one of another type."""
    if not isinstance(manifest, dict):
        raise ValueError("no JSON object")
    present = {key: kind for key, kind in _OPTIONAL_FORMS.items() if manifest.get(key) is not None}
    wanted: list[tuple[str, dict[str, Any], type]] = [
        (key, manifest, kind) for key, kind in {**_FORMS, **present}.items()
    ]
    files = manifest.get("files")
    for number, file in enumerate(files if isinstance(files, list) else ()):
        if not isinstance(file, dict):
            raise ValueError(f"files[{number}] is no JSON object")
        wanted += [(key, file, kind) for key, kind in _FILE_FORMS.items()]
    for key, holder, kind in wanted:
        if not isinstance(holder.get(key), kind):
            raise ValueError(f"{key}: {kind.__name__} is wanted, not {str(holder.get(key))[:80]!r}")


def verify_model(source: str | os.PathLike[str]) -> dict[str, Any]:
    """Check that a folder holds exactly the files that its manifest lists, byte for byte, and that the list is whole.

    Args:
        source: A folder that tpu2gpu wrote.

    Returns:
        The manifest.

    Raises:
        SourceError: There is no manifest.
        ManifestError: Files are missing, changed, too many or no regular files, or the manifest itself was altered;
            all are listed.
    """
    folder = place(source)
    manifest = read_manifest(folder)
    strange = strange_entries(folder)
    wrong = [f"{path}: {kind}" for path, kind in strange.items()]
    if _digest_of(manifest["files"]) != manifest["digest"]:
        wrong.append(f"{MANIFEST}: its digest is not that of the files which it lists")
    present = {path: size for path, size in _listed(folder).items() if path not in strange}
    listed = [file["path"] for file in manifest["files"] if file["path"] not in strange]
    raise_differences(folder, [*wrong, *differences(folder, manifest, present, listed)])
    return manifest


def differences(
    folder: Place, manifest: dict[str, Any], present: Mapping[str, int], names: Iterable[str]
) -> Iterator[str]:
    """Yield how files differ from what a manifest says: those that are there, and those that should be."""
    entries = {file["path"]: file for file in manifest["files"]}
    yield from (f"{path}: missing" for path in sorted(set(names) - present.keys()))
    yield from (f"{path}: not in the manifest" for path in sorted(present.keys() - entries.keys()))
    for path in sorted(entries.keys() & present.keys()):
        if present[path] != entries[path]["size_bytes"]:
            yield f"{path}: {present[path]} bytes, the manifest says {entries[path]['size_bytes']}"
        elif sha256_of(folder / path) != entries[path]["sha256"]:
            yield f"{path}: its bytes have changed"


def raise_differences(folder: Place, wrong: Sequence[str]) -> None:
    """Raise a ManifestError that lists what is wrong, where anything is."""
    if wrong:
        raise ManifestError(f"{folder}: differs from its manifest", details=wrong, hint="make it again")


def discard_bytecode(folder: str | os.PathLike[str]) -> None:
    """Remove what Python compiled beside the modules of a folder that a server loaded from."""
    for path in list(Path(folder).rglob("__pycache__")):
        shutil.rmtree(path)


def name_of(path: str | os.PathLike[str]) -> str:
    """Return a model's name: its folder's; that of a TFX artifact says nothing, so the step that made it."""
    path = place(path)
    if path.name != _ARTIFACT or len(path.parts) < 4:
        return path.name
    return "/".join(part for part in path.parts[-4:-1] if not _UUID.fullmatch(part))


def title_of(path: str | os.PathLike[str]) -> str:
    """Return what a heading calls a model: its folder's name, with the model's where that is a version's number.

    A TFX artifact is called by what was done to it: `imported`, `frozen`, `converted`.
    """
    path = place(path)
    if path.name.isdigit() and path.parent.name:
        return f"{path.parent.name} version {path.name}"
    if path.name != _ARTIFACT:
        return path.name
    try:
        step = str(read_manifest(path).get("step"))
    except InputError:
        step = ""
    return _DONE.get(step) or name_of(path).partition("/")[0]


def describe_source(source: str | os.PathLike[str]) -> dict[str, Any]:
    """Tell what a manifest says of the model it was made from: its path, and what tells it from another.

    Returns:
        `path`, and `digest`: that of its manifest, None where it has none. For a source of this machine without one,
        `fingerprint`: SHA-256 over its files' names, sizes and, up to 64 MiB each, contents; a checkpoint's index,
        which is small, holds the checksum of every tensor.
    """
    path = place(source)
    if (path / MANIFEST).exists():
        return {"path": name_of(path), "digest": read_manifest(path)["digest"]}
    about = {"path": name_of(path), "digest": None}
    return {**about, "fingerprint": _fingerprint(path)} if isinstance(path, Path) else about


def _fingerprint(path: Path) -> str:
    """Digest a folder's files, a file, or those of a checkpoint's prefix."""
    root = path if path.is_dir() else path.parent
    if path.is_dir():
        files = [path / inner for inner in files_below(path)]
    else:
        files = sorted(it for it in path.parent.glob(f"{glob.escape(path.name)}*") if it.is_file())
    digest = hashlib.sha256()
    for file in files:
        size_bytes, content = file.stat().st_size, ""
        if size_bytes <= _WHOLE_BYTES:
            with suppress(PermissionError):  # of what no step reads
                content = sha256_of(file)
        digest.update(json.dumps([file.relative_to(root).as_posix(), size_bytes, content]).encode())
    return digest.hexdigest()


def _listed(folder: Place) -> dict[str, int]:
    """Return the sizes of the files that a manifest lists: all but itself, and the signature that covers it."""
    return {path: size for path, size in files_below(folder).items() if path not in (MANIFEST, SIGNATURE)}
