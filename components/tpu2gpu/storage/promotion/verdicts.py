"""Verdicts on a model: what an evaluation said of which bytes, and what must hold of it before a promotion."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import ManifestError, PromotionRefusedError, SourceError
from tpu2gpu.plain_json import parse_json
from tpu2gpu.storage.whole_files import read_plain_text

LEVELS = ("unverified", "saved_model", "onnx_cpu", "onnx_gpu", "engine_built", "engine_executed")
"""What a model was verified on, from the lowest level."""

_VERDICT = "verdict.json"


@attrs.frozen(kw_only=True)
class EvaluationVerdict:
    """An evaluation's verdict on a candidate.

    Attributes:
        infra_blessed: Whether latency and size keep their budgets.
        model_blessed: Whether the outputs are right.
        digest: The digest of the candidate's manifest.
        level: On what the verdict was reached.
        hardware: Fingerprint of the machine that measured.
        reference_digest: The digest of the model that it was compared with.
        reasons: Why it was refused.
    """

    infra_blessed: bool
    model_blessed: bool
    digest: str
    level: str
    hardware: str = ""
    reference_digest: str = ""
    reasons: tuple[str, ...] = ()


def read_verdict(evaluation: str | os.PathLike[str]) -> EvaluationVerdict:
    """Read the verdict of `tpu2gpu evaluate --out EVALUATION`.

    Raises:
        SourceError: There is none.
        ManifestError: It is damaged.
    """
    path = Path(evaluation) / _VERDICT
    try:
        found = parse_json(read_plain_text(path))
        if not isinstance(found["infra_blessed"], bool) or not isinstance(found["model_blessed"], bool):
            raise ValueError("its blessings are not true or false")
        if found["verified_level"] not in LEVELS:
            raise ValueError(f"verified_level is none of {', '.join(LEVELS)}")
        return EvaluationVerdict(
            infra_blessed=found["infra_blessed"],
            model_blessed=found["model_blessed"],
            digest=str(found["candidate_digest"]),
            level=found["verified_level"],
            hardware=str(found["hardware_fingerprint"]),
            reference_digest=str(found["reference_digest"]),
            reasons=tuple(str(reason) for reason in found.get("reasons", ())),
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceError(
            f"{evaluation}: no {_VERDICT} there", hint="give the folder that `tpu2gpu evaluate --out` wrote"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{path}: not a verdict ({error!r})") from error


def check_verdict(verdict: EvaluationVerdict, manifest: Mapping[str, Any], *, require_level: str | None) -> None:
    """Check that a verdict lets a model be promoted.

    Args:
        verdict: The verdict.
        manifest: The model's.
        require_level: The lowest level on which it may have been reached; any when None.

    Raises:
        PromotionRefusedError: It does not; every reason is listed.
    """
    wrong = []
    if verdict.digest != manifest["digest"]:
        wrong.append(f"the verdict is on {_short(verdict.digest)}, the model is {_short(manifest['digest'])}")
    if not verdict.model_blessed:
        wrong.append("the outputs were refused (model_blessed is false)")
    if not verdict.infra_blessed:
        wrong.append("latency or size was refused (infra_blessed is false)")
    wrong += verdict.reasons if wrong else ()
    if require_level and LEVELS.index(verdict.level) < LEVELS.index(require_level):
        wrong.append(f"the verdict was reached on level {verdict.level}, {require_level} is required")
    if wrong:
        raise PromotionRefusedError(
            "not promoted", details=wrong, hint="evaluate this very model, and promote it when it is blessed"
        )


def _short(digest: str) -> str:
    return f"sha256:{digest[:12]}"
