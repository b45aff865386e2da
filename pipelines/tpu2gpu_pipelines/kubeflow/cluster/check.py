"""One thing that steps need of a cluster, and how it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from tpu2gpu.errors import RemoteRunError
from tpu2gpu_pipelines.kubeflow.cluster.kubernetes_api import ForbiddenError

INSTALL_HINT = "an administrator installs their controller: https://jobset.sigs.k8s.io/docs/installation/"
RIGHTS_HINT = "tpu2gpu doctor --kubeflow --settings FILE --rights | kubectl apply -f -"


@attrs.frozen
class Check:
    """One thing that steps need.

    Attributes:
        name: What it is.
        passed: Whether it is there; None where nobody could tell.
        found: What was found.
        hint: What to set where it is not.
    """

    name: str
    passed: bool | None
    found: str
    hint: str = ""


def tried(name: str, check: Callable[[], Check]) -> Check:
    """Make a check, or one that says why it could not be made."""
    (found,) = several(name, lambda: [check()])
    return found


def several(name: str, checks: Callable[[], Iterable[Check]]) -> list[Check]:
    """Make checks, or one in their place that says why they could not be made."""
    try:
        return list(checks())
    except ForbiddenError as error:
        return [Check(name, None, f"we may not look at it ({error})")]
    except RemoteRunError as error:
        return [Check(name, False, error.message)]
