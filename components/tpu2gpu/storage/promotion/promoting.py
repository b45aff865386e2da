"""Promote a model, roll back to an earlier one, and list what was promoted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import PromotionRefusedError, ProofError, SourceError, UsageError
from tpu2gpu.storage.paths import Place, fetched, place
from tpu2gpu.storage.promotion.home import ModelHome, find_home, find_homes, foreign_versions, history
from tpu2gpu.storage.promotion.layouts import layout_named, layout_of
from tpu2gpu.storage.promotion.ledger import Promotion
from tpu2gpu.storage.promotion.model_card import CARD, write_model_card
from tpu2gpu.storage.promotion.promotion_folder import promotion_folder
from tpu2gpu.storage.promotion.stock_pusher import newest_version
from tpu2gpu.storage.promotion.verdicts import EvaluationVerdict, check_verdict
from tpu2gpu.storage.publishing import MANIFEST, discard_bytecode, plain, read_manifest, verify_model
from tpu2gpu.storage.signing import check_signature

KEEP = 5
GRACE_S = 600.0
_SHOWN = ("step", "options", "source", "run", "versions", "hardware", "verified_level")


@attrs.frozen(kw_only=True)
class PromotionResult:
    """What a promotion or a rollback did.

    Attributes:
        promotion: The version that is served now, as its record tells.
        folder: Its folder.
        changed: False where the same content was served already.
        removed: Versions that went, since more than are kept were there.
    """

    promotion: Promotion
    folder: Place
    changed: bool
    removed: tuple[int, ...] = ()


def promote_model(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    verdict: EvaluationVerdict,
    *,
    name: str = "",
    require_level: str | None = None,
    keep: int = KEEP,
    grace_s: float = GRACE_S,
    settle_s: float | None = None,
    sign: str = "",
    require_signature: str = "",
    run_name: str = "",
) -> PromotionResult:
    """Make a blessed model the one that servers of a promotion folder serve.

    The version's number is one more than the largest that was ever used. It is staged aside and moved in; a server that
    polls never sees half of it. The same content again changes nothing but the ledger, where it names the run.

    Args:
        source: The serving folder, as the converter wrote it.
        folder: The promotion folder.
        verdict: The evaluation's verdict on this very model.
        name: The model's name; the serving folder's own when not given.
        require_level: The lowest level on which the verdict may have been reached.
        keep: How many versions stay; the incumbent always does.
        grace_s: How long a server may take to see and load a version; none that it may still serve goes before.
        settle_s: Seconds between the parts of a split model and the switch to them: longer than a server's look at the
            folder takes, which must not miss the parts and see the switch. 2 when not given, in an object store 30.
        sign: A private key with which the version is signed; unsigned when not given.
        require_signature: The public key, or the certificates of the authorities, by whom the model must be signed.
        run_name: The run that promotes it.

    Raises:
        PromotionRefusedError: Verdict or signature do not let it be promoted, or another promotion is under way.
        SourceError: The source is no folder that tpu2gpu wrote.
        ManifestError: Its files differ from its manifest.
        UsageError: The promotion folder holds versions of another layout.
        EnvironmentLacksError: It cannot be written.
    """
    with fetched(place(source)) as local:
        return _promote(
            local,
            folder,
            verdict,
            name=name,
            require_level=require_level,
            keep=keep,
            grace_s=grace_s,
            settle_s=settle_s,
            sign=sign,
            require_signature=require_signature,
            run_name=run_name,
        )


def _promote(
    source: Path,
    folder: str | os.PathLike[str],
    verdict: EvaluationVerdict,
    *,
    name: str,
    require_level: str | None,
    keep: int,
    grace_s: float,
    settle_s: float | None,
    sign: str,
    require_signature: str,
    run_name: str,
) -> PromotionResult:
    files = promotion_folder(folder)
    manifest = verify_model(source)
    check_verdict(verdict, manifest, require_level=require_level)
    check_signed(source, require_signature)
    layout = layout_of(source)
    own_name = layout.model_name(source)
    if name and own_name and name != own_name:
        raise UsageError(f"--name {name}: {source} was converted as '{own_name}'", hint="convert it with that --name")
    home = ModelHome(files, name or model_name(source))
    find_homes(folder)  # no folder of another layout
    home.check_own()
    with files.locked():
        version = home.repair()
        incumbent = home.incumbent()
        if incumbent is not None and incumbent.layout != layout.name:
            raise UsageError(
                f"{home.path}: holds versions in the layout {incumbent.layout}, and {source} has {layout.name}",
                hint="convert it with the other --layout, or choose another promotion folder",
            )
        if incumbent is not None and incumbent.digest == manifest["digest"]:
            _confirm(home, incumbent, verdict, run_name)
            return PromotionResult(promotion=incumbent, folder=home.folder_of(incumbent.version), changed=False)

        def fill(target: Path) -> Promotion:
            models = layout.stage(source, target, version)
            promotion = Promotion(
                model=home.name,
                version=version,
                action="promote",
                digest=manifest["digest"],
                run=run_name,
                at=_now(),
                replaces=incumbent.version if incumbent else None,
                layout=layout.name,
                reason=f"blessed on level {verdict.level}",
                verdict=plain(verdict),
                models=models,
            )
            write_model_card(target / CARD, promotion, manifest, source)
            return promotion

        about = {key: manifest[key] for key in _SHOWN if key in manifest} | {"promoted_digest": manifest["digest"]}
        about["verdict"] = plain(verdict)
        promotion = home.add(version, layout, fill, about, sign=sign, settle_s=settle_s)
        removed = home.prune(keep, grace_s)
    return PromotionResult(
        promotion=promotion, folder=home.path / str(promotion.version), changed=True, removed=tuple(removed)
    )


def roll_back(
    folder: str | os.PathLike[str],
    *,
    to: int | None = None,
    name: str = "",
    reason: str = "",
    keep: int = KEEP,
    grace_s: float = GRACE_S,
    settle_s: float | None = None,
    sign: str = "",
    require_signature: str = "",
    run_name: str = "",
) -> PromotionResult:
    """Make an earlier version the newest.

    It gets a number of its own, so that versions only grow, and servers that serve the largest follow.

    Args:
        folder: The promotion folder.
        to: The version; the one before the incumbent when not given.
        name: The model's name; need not be given where there is one.
        reason: Why, for the ledger.
        keep: How many versions stay.
        grace_s: How long a server may take to see and load a version.
        settle_s: Seconds between the parts of a split model and the switch to them: longer than a server's look at the
            folder takes, which must not miss the parts and see the switch. 2 when not given, in an object store 30.
        sign: A private key with which the new version is signed; unsigned when not given.
        require_signature: The public key, or the certificates of the authorities, by whom the version must be signed.
        run_name: The run that rolls back.

    Raises:
        SourceError: Nothing was promoted there, or there is no such version.
        PromotionRefusedError: It is served already, or not signed as is required, or another promotion is under way.
        ManifestError: The version's files have changed since it was promoted.
    """
    home = find_home(folder, name)
    with home.files.locked():
        version = home.repair()
        incumbent = home.incumbent()
        if incumbent is None:
            raise SourceError(f"{home.path}: no version is served there", hint="promote one")
        earlier = [record.version for record in home.versions() if record.version != incumbent.version]
        if to is None and not earlier:
            raise SourceError(f"{home.path}: no version before {incumbent.version} is there", hint="promote another")
        wanted = home.folder_of(earlier[-1] if to is None else to)
        former = next(record for record in home.versions() if str(record.version) == wanted.name)
        if former.version == incumbent.version or former.digest == incumbent.digest:
            raise PromotionRefusedError(
                f"{home.path}: version {former.version} is what is served already (as {incumbent.version})",
                hint=f"there are {', '.join(map(str, earlier)) or 'no others'}",
            )
        with fetched(wanted) as kept:
            discard_bytecode(kept)
            manifest, layout = verify_model(kept), layout_named(former.layout)
            check_signed(kept, require_signature)

            def fill(target: Path) -> Promotion:
                models = layout.restage(kept, target, version)
                promotion = attrs.evolve(
                    former,
                    version=version,
                    action="rollback",
                    run=run_name,
                    at=_now(),
                    replaces=incumbent.version,
                    restores=former.version,
                    reason=reason or "rolled back",
                    models=models,
                )
                write_model_card(target / CARD, promotion, manifest, kept)
                return promotion

            about = {key: manifest[key] for key in (*_SHOWN, "promoted_digest", "verdict") if key in manifest}
            promotion = home.add(version, layout, fill, about, sign=sign, settle_s=settle_s)
        removed = home.prune(keep, grace_s)
    return PromotionResult(
        promotion=promotion, folder=home.path / str(promotion.version), changed=True, removed=tuple(removed)
    )


def check_signed(source: Path, require_signature: str) -> None:
    """Check that a model is signed by whom it must be; nothing where nobody must have signed it.

    Raises:
        PromotionRefusedError: It is unsigned or altered, or its signature has expired.
    """
    if not require_signature:
        return
    try:
        check_signature(source, require_signature)
    except ProofError as error:
        raise PromotionRefusedError("not promoted", details=[error.message], hint=error.hint) from error


def _confirm(home: ModelHome, incumbent: Promotion, verdict: EvaluationVerdict, run_name: str) -> None:
    """Note that a run found its model to be the incumbent already: nobody could tell it from a refused one else."""
    if not run_name or any(line.run == run_name for line in history(home.folder)):
        return
    reason = "the same content is served already"
    line = attrs.evolve(
        incumbent, action="confirm", run=run_name, at=_now(), replaces=None, reason=reason, verdict=plain(verdict)
    )
    home.enter([line])


def list_promoted(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """List all versions that were ever promoted, newest last, with `incumbent` and `kept` for each.

    Raises:
        ManifestError: The ledger or a record is damaged.
        UsageError: The folder holds versions of another layout.
    """
    homes = find_homes(folder)
    served = {(home.name, home.served()) for home in homes}
    kept = {(home.name, record.version) for home in homes for record in home.versions()}
    return [
        {**plain(line), "incumbent": (line.model, line.version) in served, "kept": (line.model, line.version) in kept}
        for line in history(folder)
    ]


def find_incumbent(folder: str | os.PathLike[str], name: str = "") -> Place | None:
    """Return the folder of the version that is served now; None while there is none.

    A folder that TFX's stock Pusher fills is read too.

    Raises:
        UsageError: There are several models, and none was named.
        ManifestError: Its record is damaged.
    """
    if foreign_versions(folder):
        return newest_version(folder)
    homes = find_homes(folder)
    if not homes or (name and name not in [home.name for home in homes]):
        return None
    home = find_home(folder, name)
    served = home.served()
    return home.path / str(served) if served is not None else None


@contextmanager
def fetched_incumbent(folder: str | os.PathLike[str], name: str = "") -> Iterator[Path | None]:
    """Give the version that is served now, copied to this machine from an object store; None while there is none.

    Raises:
        UsageError: There are several models, and none was named.
        ManifestError: Its record is damaged.
    """
    incumbent = find_incumbent(folder, name)
    if incumbent is None:
        yield None
        return
    with fetched(incumbent) as local:
        yield local


def find_incumbents(folder: str | os.PathLike[str]) -> list[Place]:
    """Return the folders of the versions that are served now, one for each model."""
    if foreign_versions(folder):
        return [newest] if (newest := newest_version(folder)) else []
    return [home.path / str(served) for home in find_homes(folder) if (served := home.served()) is not None]


def find_promotion(folder: str | os.PathLike[str], run_name: str) -> Promotion | None:
    """Return what a run promoted, or found to be served already; None where it promoted nothing."""
    if foreign_versions(folder):  # TFX's stock Pusher keeps no ledger
        return None
    lines = [line for line in history(folder) if run_name and line.run == run_name]
    return lines[-1] if lines else None


def model_name(source: str | os.PathLike[str]) -> str:
    """Return the name under which a serving folder's model is promoted."""
    path = Path(source)
    told = read_manifest(path).get("options", {}).get("name") if (path / MANIFEST).is_file() else None
    return layout_of(path).model_name(path) or str(told or "model")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
