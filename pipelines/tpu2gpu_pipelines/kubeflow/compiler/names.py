"""The forms that Kubernetes and container registries give to names.

Sources:
    https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and .../labels/
    https://github.com/distribution/reference, regexp.go (images)
"""

from __future__ import annotations

import re

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+|/)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d+)?/"
_FORMS = {
    "name": (_SUBDOMAIN, 253, "small letters, digits, - and full stops, a letter or digit at both ends"),
    "namespace": (_LABEL, 63, "small letters, digits and -, at most 63, a letter or digit at both ends"),
    "key of a secret": (r"[A-Za-z0-9_.-]+", 253, "letters, digits, _, - and full stops"),
    "label": (
        rf"(?:{_SUBDOMAIN}/)?{_WORD}",
        317,
        "letters, digits, _, - and full stops, perhaps after DOMAIN/",
    ),
    "value of a label": (rf"(?:{_WORD})?", 63, "at most 63 letters, digits, _, - and full stops"),
    "image": (
        rf"(?:{_HOST})?{_PATH}(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?",
        1000,
        "REGISTRY/NAME:TAG, the name in small letters and without https://",
    ),
}


def misnamed(kind: str, text: str) -> str:
    """Tell why a text is not a name of this kind; empty where it is one.

    Args:
        kind: `name` (of secrets, claims and service accounts), `namespace`, `key of a secret`, `label`, `value of a
            label` or `image`.
        text: The text.
    """
    form, longest, told = _FORMS[kind]
    if len(text) <= longest and re.fullmatch(form, text):
        return ""
    return f"{text!r}: not a {kind} that Kubernetes takes: {told}".replace("a image", "an image")
