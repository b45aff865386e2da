"""Options of a promotion."""

from __future__ import annotations

import attrs

from tpu2gpu.options import KnownNames, option
from tpu2gpu.storage.promotion.promoting import GRACE_S, KEEP
from tpu2gpu.storage.promotion.verdicts import LEVELS


@attrs.frozen(kw_only=True)
class PushOptions(KnownNames):
    """How to promote. Every field is a flag of `tpu2gpu promote`.

    Attributes:
        name: The model's name; the serving folder's own when not given.
        require_level: The lowest level on which the verdict may have been reached.
        keep: How many versions stay; the incumbent always does.
        grace_s: Seconds that a server may take to see and load a version; none that it may still serve goes before.
        settle_s: Seconds between the parts of a split model and the switch to them: longer than a server's look at the
            folder takes. 2 when not given, in an object store 30.
        sign: A private key with which the version is signed; unsigned when not given.
        require_signature: The public key, or the certificates of the authorities, by whom a model must be signed.
    """

    name: str = option("", "the model's name (default: the serving folder's own)", metavar="NAME")
    require_level: str | None = option(None, "lowest level on which the verdict was reached", choices=LEVELS)
    keep: int = option(KEEP, "how many versions stay; the incumbent always does", minimum=1)
    grace_s: float = option(GRACE_S, "seconds that a server may take to load a version", minimum=0)
    settle_s: float | None = option(
        None, "seconds between a split model's parts and the switch (default: 2, in a bucket 30)", minimum=0
    )
    sign: str = option("", "sign the version with this private key (PEM, its certificates behind it)", metavar="KEY")
    require_signature: str = option(
        "", "refuse a model that is not signed by this public key or an authority's certificates", metavar="KEY"
    )
