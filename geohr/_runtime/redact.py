"""Texts without the credentials that addresses carry, for logs, manifests and provenance."""

from __future__ import annotations

import re
from collections.abc import Mapping

_USER = re.compile(r"(?P<scheme>[a-zA-Z][\w+.-]*://)[^\s/@'\"]+@")
_QUERY = re.compile(r"(?P<address>(?:[a-zA-Z][\w+.-]*://|/vsi)[^\s?'\"]*)\?[^\s'\"]+")
_SECRET = r"[\w-]*(?:secret|token|password|passwd|signature|access_?key|api_?key)[\w-]*['\"]?\s*"
_PAIR = re.compile(
    # A colon after the end of a path is no assignment: "/etc/passwd: no such file".
    rf"(?P<name>\b{_SECRET}=\s*|(?<![\w/-]){_SECRET}:\s*)['\"]?[^\s'\"&,;]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    r"""The text without user names, passwords, queries of URLs and values of secrets.

    Bytes of file names that are no UTF-8 are written out, such as `\udce9`: no file could hold
    the text otherwise.
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
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
