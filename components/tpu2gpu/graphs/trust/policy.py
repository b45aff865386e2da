"""What a user trusts a model to do besides computing; everything else is refused before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tpu2gpu.errors import TrustRefusedError
from tpu2gpu.graphs.op_classes import OpClass
from tpu2gpu.graphs.trust.review import Finding

_TRUSTED_BY: dict[OpClass, str] = {
    "reads files": "files",
    "writes files": "files",
    "network": "network",
    "python": "python",
    "custom": "custom",
    "engine": "custom",
    "unknown": "custom",
}


def require_trust(findings: Sequence[Finding], trust: Collection[str], model: object) -> None:
    """Check that a user trusts a model to do all that it would do.

    Args:
        findings: The nodes that do more than compute.
        trust: What the user trusts, of `TRUST`.
        model: The model, for the message.

    Raises:
        TrustRefusedError: It would do more; every node is listed.
    """
    refused = [finding for finding in findings if _TRUSTED_BY[finding.does] not in trust]
    if refused:
        flags = " ".join(f"--trust {name}" for name in sorted({_TRUSTED_BY[finding.does] for finding in refused}))
        raise TrustRefusedError(
            f"{model}: would do more than compute",
            details=[str(finding) for finding in refused],
            hint=f"export it without these, or give {flags} where you trust who made it",
        )
