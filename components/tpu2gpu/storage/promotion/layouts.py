"""Layouts: how a serving folder becomes a version of a model that a server polls.

    triton        <folder>/<model>/config.pbtxt, which names the version that is served, and <folder>/<model>/<version>/
    tf_serving    <folder>/<model>/<version>/, the largest number is served
    plain         the same, for a loader of one's own

A version is staged aside. In Triton's layout the configuration names one version alone (`version_policy.specific`), so
that a server that polls sees a new version's folder without loading it, and the one rename that replaces the
configuration switches configuration and version together. The parts of a split model are models of the server too:
each version gets parts of its own names, which its ensemble names, so that parts of two versions never meet.

Source: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_management.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tpu2gpu.errors import ManifestError, SourceError
from tpu2gpu.storage.paths import Place
from tpu2gpu.storage.promotion.copying import copy_files
from tpu2gpu.storage.promotion.ledger import RECORD
from tpu2gpu.storage.promotion.model_card import CARD
from tpu2gpu.storage.promotion.promotion_folder import PromotionFolder
from tpu2gpu.storage.publishing import MANIFEST, SIGNATURE
from tpu2gpu.storage.whole_files import read_plain_text

_REPOSITORY = "model_repository"
_SERVABLES = "tf_serving"
_CONFIG = "config.pbtxt"
_SAVED_MODEL = "saved_model.pb"
_OWN = (MANIFEST, SIGNATURE)  # of the folder that is copied: each version gets its own
_NUMBER = re.compile(r"_v\d+$")


class Layout(Protocol):
    """How versions lie, and which one is served.

    Attributes:
        name: What records and messages call it.
        last: The file of a version's folder that is written last where nothing can be renamed: without it no server
            takes the version.
    """

    name: str
    last: str

    def fits(self, source: Path) -> bool:
        """Tell whether a serving folder was laid out for this server."""
        ...

    def model_name(self, source: Path) -> str | None:
        """Return the model's name in a serving folder; None where it does not tell one."""
        ...

    def stage(self, source: Path, target: Path, version: int) -> Sequence[str]:
        """Copy a serving folder to a version's folder in the making.

        Args:
            source: The serving folder.
            target: The version's folder; its manifest and record are written later.
            version: Its number.

        Returns:
            The models of the server that belong to this version alone.
        """
        ...

    def restage(self, former: Path, target: Path, version: int) -> Sequence[str]:
        """Copy a version's folder to that of another number; the rest is as with `stage`."""
        ...

    def served(self, home: Place) -> int | None:
        """Return the version that a server serves; None before the first."""
        ...

    def bring(self, files: PromotionFolder, home: Place, version: int, models: Sequence[str]) -> None:
        """Put the models that belong to a version where the server finds them."""
        ...

    def serve(self, files: PromotionFolder, home: Place, version: int) -> None:
        """Have the server serve a version whose folder is in its place, in one step."""
        ...


class TritonLayout:
    """Triton's model repository."""

    name = "triton"
    last = MANIFEST

    def fits(self, source: Path) -> bool:
        """Tell whether there is a model repository."""
        return (source / _REPOSITORY).is_dir()

    def model_name(self, source: Path) -> str | None:
        """Return the name of the repository's ensemble, or of its one model.

        Raises:
            SourceError: The repository holds several models and no ensemble.
        """
        names = [path.parent.name for path in sorted((source / _REPOSITORY).glob(f"*/{_CONFIG}"))]
        ensembles = [name for name in names if _read_config(source / _REPOSITORY / name).platform == "ensemble"]
        if len(names) == 1:
            return names[0]
        if len(ensembles) != 1:
            raise SourceError(f"{source / _REPOSITORY}: {len(names)} models and {len(ensembles)} ensembles, not one")
        return ensembles[0]

    def stage(self, source: Path, target: Path, version: int) -> Sequence[str]:
        """Copy the folder, with what the server loads of the model on top; the ensemble names parts of this version."""
        name = self.model_name(source)
        assert name is not None
        copy_files(source, target, leave=[*_OWN, _REPOSITORY])
        copy_files(_only_version(source / _REPOSITORY / name), target)
        return _stage_configs(source / _REPOSITORY, source / _REPOSITORY / name, target, version)

    def restage(self, former: Path, target: Path, version: int) -> Sequence[str]:
        """Copy the folder; the ensemble names parts of the new version."""
        copy_files(former, target, leave=[*_OWN, _REPOSITORY, RECORD, CARD])
        return _stage_configs(former / _REPOSITORY, former, target, version)

    def served(self, home: Place) -> int | None:
        """Return the one version that the configuration names."""
        if not (home / _CONFIG).is_file():
            return None
        versions = _read_config(home).version_policy.specific.versions
        return int(versions[0]) if len(versions) == 1 else None

    def bring(self, files: PromotionFolder, home: Place, version: int, models: Sequence[str]) -> None:
        """Copy the version's parts into the repository, each in one step."""
        for model in models:
            files.copy(home, home / str(version) / _REPOSITORY / model, home.parent / model, _CONFIG)

    def serve(self, files: PromotionFolder, home: Place, version: int) -> None:
        """Replace the configuration by the version's."""
        files.replace(home / _CONFIG, (home / str(version) / _CONFIG).read_bytes())


class VersionFolders:
    """Numbered folders of which the largest is served: that it is whole is all that serving it takes."""

    name = "plain"
    last = MANIFEST

    def fits(self, source: Path) -> bool:
        """Take any folder."""
        return source.is_dir()

    def model_name(self, source: Path) -> str | None:
        """Tell no name: the folder holds none."""
        return None

    def stage(self, source: Path, target: Path, version: int) -> Sequence[str]:
        """Copy the folder as it is."""
        copy_files(source, target, leave=_OWN)
        return ()

    def restage(self, former: Path, target: Path, version: int) -> Sequence[str]:
        """Copy the folder."""
        copy_files(former, target, leave=[*_OWN, RECORD, CARD])
        return ()

    def served(self, home: Place) -> int | None:
        """Return the largest number whose folder is whole."""
        numbers = sorted((int(path.name) for path in home.iterdir() if path.name.isdecimal()), reverse=True)
        return next((number for number in numbers if (home / str(number) / self.last).is_file()), None)

    def bring(self, files: PromotionFolder, home: Place, version: int, models: Sequence[str]) -> None:
        """Do nothing: a version has no models of its own."""

    def serve(self, files: PromotionFolder, home: Place, version: int) -> None:
        """Do nothing: the folder's name serves it."""


class TensorFlowServingLayout(VersionFolders):
    """TensorFlow Serving's model base path: the SavedModel itself, with what tells of it beside it."""

    name = "tf_serving"
    last = _SAVED_MODEL

    def fits(self, source: Path) -> bool:
        """Tell whether there are version folders for TensorFlow Serving."""
        return (source / _SERVABLES).is_dir()

    def model_name(self, source: Path) -> str | None:
        """Return the servable's name."""
        return next(iter(sorted(path.name for path in (source / _SERVABLES).iterdir())), None)

    def stage(self, source: Path, target: Path, version: int) -> Sequence[str]:
        """Copy the folder, with the SavedModel on top."""
        name = self.model_name(source)
        assert name is not None
        copy_files(source, target, leave=[*_OWN, _SERVABLES])
        copy_files(_only_version(source / _SERVABLES / name), target)
        return ()


LAYOUTS: tuple[Layout, ...] = (TritonLayout(), TensorFlowServingLayout(), VersionFolders())


def layout_of(source: Path) -> Layout:
    """Return the layout that a serving folder was made for."""
    return next(layout for layout in LAYOUTS if layout.fits(source))


def layout_named(name: str) -> Layout:
    """Return the layout of a record.

    Raises:
        ManifestError: There is none of this name.
    """
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise ManifestError(f"a record of a promotion names the layout {name!r}, which there is not")


def _stage_configs(repository: Path, home: Path, target: Path, version: int) -> list[str]:
    """Write a version's configuration, and its parts under names of their own.

    Args:
        repository: Where the parts lie.
        home: Where the model's configuration lies.
        target: The version's folder in the making.
        version: Its number.
    """
    config = _read_config(home)
    models = []
    for path in sorted(repository.glob(f"*/{_CONFIG}")):
        part = path.parent
        if part == home:
            continue
        own = _read_config(part)
        own.name = _part_name(part.name, version)
        copy_files(_only_version(part), target / _REPOSITORY / own.name / str(version))
        _write_config(target / _REPOSITORY / own.name / _CONFIG, own, version)
        models.append(own.name)
    for step in config.ensemble_scheduling.step:
        step.model_name = _part_name(step.model_name, version)
    _write_config(target / _CONFIG, config, version)
    return models


def _part_name(part: str, version: int) -> str:
    """Return a part's name in a version: that of the converter, and the version's number."""
    return f"{_NUMBER.sub('', part)}_v{version}"


def _only_version(home: Path) -> Path:
    """Return the folder of the one version that a converter wrote."""
    versions = [path for path in home.iterdir() if path.name.isdecimal()]
    if len(versions) != 1:
        raise SourceError(f"{home}: {len(versions)} versions, not one")
    return versions[0]


def _read_config(home: Place) -> Any:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        return text_format.Parse(read_plain_text(home / _CONFIG), model_config_pb2.ModelConfig())
    except (text_format.ParseError, ValueError, RecursionError) as error:
        raise SourceError(f"{home / _CONFIG}: not a configuration of Triton ({error})") from error


def _write_config(path: Path, config: Any, version: int) -> None:
    from google.protobuf import text_format

    config.version_policy.Clear()
    config.version_policy.specific.versions.append(version)
    path.write_text(str(text_format.MessageToString(config)), encoding="utf-8")
