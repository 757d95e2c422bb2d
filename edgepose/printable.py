"""Text of others, made safe to show: no character of it moves a cursor, starts a line, changes a color or turns the direction of text."""

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str, limit: int | None = None, *, keep: str = "") -> str:
    r"""Return text with the characters that are not printable as escapes (`\n`, `\x1b`, `\u202e`; CVE-2021-42574), cut to a length.

    Args:
        text: of anybody.
        limit: most characters before escaping; a longer text ends in `…`.
        keep: characters that stay though they are not printable, such as line breaks.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    code = ord(character)
    plain = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT.get(character, plain)
