"""The second factor: time-based codes of six digits (RFC 6238), and recovery codes for the day when the phone is gone."""

import base64
import hmac
import secrets
import struct
from urllib.parse import quote

STEP_S = 30
DIGITS = 6
WINDOW = 1
"""Steps before and after the present one whose codes are accepted: clocks of phones differ."""

_SECRET_BYTES = 20
_RECOVERY_CODES = 10
_RECOVERY_BYTES = 10


def new_secret() -> str:
    """Return a random secret of 160 bits, base32."""
    return base64.b32encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def code_at(secret: str, step: int) -> str:
    """Return the code of a time step (RFC 4226, section 5.3)."""
    mac = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), "sha1")
    offset = mac[-1] & 0x0F
    (value,) = struct.unpack_from(">I", mac, offset)
    return f"{(value & 0x7FFFFFFF) % 10**DIGITS:0{DIGITS}d}"


def matching_step(secret: str, code: str, now_s: float, last_step: int) -> int | None:
    """Return the time step that a code belongs to, None where it is wrong or not newer than the last one that was accepted.

    Args:
        secret: base32.
        code: as a person typed it.
        now_s: seconds since the Unix epoch.
        last_step: of the last code that was accepted.
    """
    typed = "".join(code.split())
    now = int(now_s // STEP_S)
    found = None
    for step in range(max(0, now - WINDOW), now + WINDOW + 1):  # always all of them, so that the time tells nothing
        if hmac.compare_digest(code_at(secret, step).encode(), typed.encode()) and step > last_step:
            found = step
    return found


def provisioning_uri(secret: str, account: str, device: str) -> str:
    """Return the address that an authenticator app reads from a QR code."""
    return f"otpauth://totp/{quote(f'edgepose {device}:{account}')}?secret={secret}&issuer={quote(f'edgepose {device}')}"


def new_recovery_codes() -> list[str]:
    """Return ten random codes of 80 bits, in groups of four characters."""
    codes = [base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().lower() for _ in range(_RECOVERY_CODES)]
    return ["-".join(code[at : at + 4] for at in range(0, len(code), 4)) for code in codes]


def plain_recovery_code(typed: str) -> str:
    """Return a recovery code as it was given out, however a person typed it."""
    plain = "".join(letter for letter in typed.lower() if letter.isalnum())
    return "-".join(plain[at : at + 4] for at in range(0, len(plain), 4))
