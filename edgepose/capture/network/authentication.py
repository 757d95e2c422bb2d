"""Answers to the challenges of HTTP and RTSP cameras: Basic (RFC 7617) and Digest (RFC 7616) authentication."""

import hashlib
import re
import secrets
from base64 import b64encode
from collections.abc import Callable
from urllib.parse import SplitResult, unquote

_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_ALGORITHMS: dict[str, Callable[[bytes], str]] = {
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "sha-256": lambda data: hashlib.sha256(data).hexdigest(),
}


class Credentials:
    """User name and password of a URL, and the last challenge that they answered.

    Args:
        user, password: not encoded.
    """

    def __init__(self, user: str, password: str) -> None:
        self._user = user
        self._password = password
        self._challenge: dict[str, str] | None = None
        self._uses = 0

    @classmethod
    def of(cls, parts: SplitResult) -> "Credentials | None":
        """Return the credentials in a URL, None where there are none."""
        userinfo, at, _ = parts.netloc.rpartition("@")
        if not at:
            return None
        user, _, password = userinfo.partition(":")
        return cls(unquote(user), unquote(password))

    def challenged(self, challenges: list[str]) -> bool:
        """Take the challenges of a refused request and return whether one of them can be answered; Digest is preferred."""
        usable = [parsed for challenge in challenges for parsed in _parsed(challenge) if self._usable(parsed)]
        self._challenge = min(usable, key=lambda parsed: parsed["scheme"] != "digest", default=None)
        self._uses = 0
        return self._challenge is not None

    def header(self, method: str, uri: str) -> str | None:
        """Return the header `Authorization` of a request, None where nothing was asked yet."""
        challenge = self._challenge
        if challenge is None:
            return None
        if challenge["scheme"] == "basic":
            return "Basic " + b64encode(f"{self._user}:{self._password}".encode()).decode()
        return self._digest(challenge, method, uri)

    @staticmethod
    def _usable(challenge: dict[str, str]) -> bool:
        algorithm = challenge.get("algorithm", "md5").lower().removesuffix("-sess")
        return challenge["scheme"] == "basic" or (challenge["scheme"] == "digest" and algorithm in _ALGORITHMS and "nonce" in challenge)

    def _digest(self, challenge: dict[str, str], method: str, uri: str) -> str:
        algorithm = challenge.get("algorithm", "MD5")
        hashed = _ALGORITHMS[algorithm.lower().removesuffix("-sess")]
        realm, nonce = challenge.get("realm", ""), challenge["nonce"]
        client_nonce = secrets.token_hex(8)
        self._uses += 1
        count = f"{self._uses:08x}"
        first = hashed(f"{self._user}:{realm}:{self._password}".encode())
        if algorithm.lower().endswith("-sess"):
            first = hashed(f"{first}:{nonce}:{client_nonce}".encode())
        second = hashed(f"{method}:{uri}".encode())
        fields = {"username": self._user, "realm": realm, "nonce": nonce, "uri": uri}
        tail = ""
        if "auth" in re.split(r"[\s,]+", challenge.get("qop", "")):
            fields |= {"cnonce": client_nonce, "response": hashed(f"{first}:{nonce}:{count}:{client_nonce}:auth:{second}".encode())}
            tail = f", qop=auth, nc={count}"
        else:
            fields["response"] = hashed(f"{first}:{nonce}:{second}".encode())
        if "opaque" in challenge:
            fields["opaque"] = challenge["opaque"]
        if "algorithm" in challenge:
            tail += f", algorithm={algorithm}"
        return "Digest " + ", ".join(f'{name}="{_escaped(value)}"' for name, value in fields.items()) + tail


def _parsed(header: str) -> list[dict[str, str]]:
    """Return the challenges in one header `WWW-Authenticate`: several schemes may stand in one."""
    found = []
    for part in re.split(r"(?:^|,)\s*(?=(?:Basic|Digest)\b)", header, flags=re.IGNORECASE):
        scheme, _, rest = part.strip().partition(" ")
        if scheme:
            values = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(rest)}
            found.append(values | {"scheme": scheme.lower()})
    return found


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "")
