"""Redaction of credentials, which must never leave the process in a message."""

import re

_URL = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)"
    # A URL ends at a space or a quote; where an '@' follows that is not in the next URL, these may be part of a password.
    r"(?P<rest>[^\s'\"<>]*(?:(?:(?!://)[^\n])*@[^\s'\"<>]*)?)"
)
_SECRET_PARAMETER = re.compile(
    r"(?P<name>[?&;](?:user|usr|username|login|pass|passwd|password|passphrase|pwd|auth|token|access_token|key|apikey|api_key|secret|signature|sig)=)[^&;#\s'\"]*",
    re.IGNORECASE,
)
_SECRET_PROPERTY = re.compile(  # of elements in a GStreamer pipeline
    r"(?P<name>(?:^|[\s!])(?:user-id|user-pw|user|username|password|passphrase|proxy-id|proxy-pw|token|secret)\s*=\s*)"
    r"(?:\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s!]+)",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Return a URL, a GStreamer pipeline, or a text that holds URLs, with user names, passwords and tokens replaced by `***`.

    Passwords of cameras may contain unescaped `@`, `/`, `?` and quotes. Where a URL is ambiguous, too much is hidden rather than too
    little.
    """
    text = _SECRET_PROPERTY.sub(r"\g<name>***", text)
    return _SECRET_PARAMETER.sub(r"\g<name>***", _URL.sub(_without_userinfo, text))


def _without_userinfo(match: re.Match[str]) -> str:
    scheme, rest = match["scheme"], match["rest"]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # `user:pa/ss@host` looks like host `user`, port `pa`: after a colon, everything up to the last `@` may be a password.
    end = rest.rfind("@") if ":" in authority else authority.rfind("@")
    return scheme + rest if end < 0 else f"{scheme}***@{rest[end + 1 :]}"
