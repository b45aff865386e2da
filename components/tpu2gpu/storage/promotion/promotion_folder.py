"""A promotion folder wherever it lies: how things get into it so that a server that polls never sees half of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from tpu2gpu.storage.paths import Place, RemotePath, place
from tpu2gpu.storage.promotion.mounted_folder import MountedFolder
from tpu2gpu.storage.promotion.object_store import ObjectStore


class PromotionFolder(Protocol):
    """Where versions and their ledger lie; all that writes holds its lock."""

    @property
    def root(self) -> Place:
        """The folder itself."""
        ...

    @property
    def settle_s(self) -> float:
        """Seconds that a server's look at the folder takes at most, for all that is known of its file system."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Hold the folder's lock, which ends with the process.

        Raises:
            PromotionRefusedError: Another process holds it.
            EnvironmentLacksError: Something in the folder cannot be written.
        """
        ...

    def staging(self, home: Place) -> AbstractContextManager[Path]:
        """Give a folder of this machine in which a version of a model is made."""
        ...

    def move_in(self, staged: Path, target: Place, last: str) -> None:
        """Have a staged folder appear: in one step, or file by file with `last`, without which it is none."""
        ...

    def copy(self, home: Place, source: Place, target: Place, last: str) -> None:
        """Have a copy of a folder of a model's home appear elsewhere, as `move_in` does."""
        ...

    def replace(self, path: Place, data: bytes) -> None:
        """Write a file in one step: others see what was there before, or all of it."""
        ...

    def append(self, path: Place, lines: str) -> None:
        """Append whole lines to a file, in the place of a last line that was cut off."""
        ...

    def remove(self, home: Place, path: Place) -> None:
        """Remove a folder, for those who look in one step, or what shows that it is whole first; none need be there."""
        ...

    def abandon(self, home: Place, path: Place) -> bool:
        """Hide a version that was never served and keep its parts, where a server may be loading them; tell whether."""
        ...

    def abandoned(self, home: Place) -> Mapping[int, Place]:
        """Return the folders of abandoned versions by their numbers."""
        ...

    def sweep(self, home: Place) -> None:
        """Remove what killed processes left in the making in a model's home."""
        ...


def promotion_folder(folder: str | os.PathLike[str]) -> PromotionFolder:
    """Return a promotion folder on this machine, on a mounted volume, or in a file system with a scheme.

    Raises:
        EnvironmentLacksError: Nothing installed knows its file system.
    """
    root = place(os.fspath(folder).removeprefix("file://"))
    return ObjectStore(root) if isinstance(root, RemotePath) else MountedFolder(root)
