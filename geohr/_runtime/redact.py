"""Texts without the credentials that addresses carry, for logs, manifests and provenance."""

from __future__ import annotations

import re
from collections.abc import Mapping

_USER = re.compile(r"(?P<scheme>[a-zA-Z][\w+.-]*://)[^\s/@'\"]+@")
_QUERY = re.compile(r"(?P<address>(?:[a-zA-Z][\w+.-]*://|/vsi)[^\s?'\"]*)\?[^\s'\"]+")
_PAIR = re.compile(
    r"(?P<name>\b[\w-]*(?:secret|token|password|passwd|signature|access_?key|api_?key)[\w-]*"
    r"['\"]?\s*[=:]\s*)['\"]?[^\s'\"&,;]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text without user names, passwords, queries of addresses and values of secrets."""
    text = _USER.sub(r"\g<scheme>***@", text)
    text = _QUERY.sub(r"\g<address>?***", text)
    return _PAIR.sub(r"\g<name>***", text)


def redact_all(value: object) -> object:
    """A value of JSON with every text in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: redact_all(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_all(each) for each in value]
    return value
