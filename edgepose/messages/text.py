"""Text of others as it is shown: without characters that a terminal obeys or that forge a line."""

import re

# Controls of ASCII and Latin-1, line and paragraph separators, and marks that turn the direction of text (CVE-2021-42574).
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, limit: int | None = None, *, keep: str = "") -> str:
    r"""Return text with control characters as escapes (`\n`, `\x1b`, `\u202e`), cut to a length.

    Args:
        text: of anybody.
        limit: most characters; a longer text ends in `…`.
        keep: control characters that stay.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(
        character, f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
    )
