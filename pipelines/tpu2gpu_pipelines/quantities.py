"""Amounts as Kubernetes writes them.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re

from tpu2gpu.errors import UsageError

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_DECIMAL = {suffix: 1000.0**power for power, suffix in enumerate("kMGTPE", 1)}
_BINARY = {f"{suffix}i": 1024.0**power for power, suffix in enumerate("KMGTPE", 1)}
_DURATION = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_UNITS = {"": 1.0, "m": 1e-3, **_DECIMAL, **_BINARY}


def to_cpus(quantity: str) -> float:
    """Processors: `8` is 8, `500m` is a half.

    Raises:
        UsageError: Kubernetes would not read it.
    """
    return _parse(quantity, "cpu", "8 or 500m")


def to_gigabytes(quantity: str) -> float:
    """Memory in 10^9 bytes: `16Gi` is 17.18.

    Raises:
        UsageError: Kubernetes would not read it.
    """
    return round(_parse(quantity, "memory", "16Gi") / 1e9, 3)


def _parse(quantity: str, what: str, example: str) -> float:
    match = _QUANTITY.fullmatch(quantity)
    if not match or float(match[1]) == 0:
        raise UsageError(f"{what} '{quantity}': not an amount that Kubernetes reads", hint=f"write it as {example}")
    return float(match[1]) * _UNITS[match[2] or ""]


def to_seconds(duration: str) -> int:
    """Seconds: `90s`, `30m`, `12h` or `7d`.

    Raises:
        UsageError: It has another form.
    """
    match = _DURATION.fullmatch(duration)
    if not match or int(match[1]) == 0:
        raise UsageError(f"duration '{duration}': not one that is known", hint="write it as 90s, 30m, 12h or 7d")
    return int(match[1]) * _SECONDS[match[2]]
