"""Text of others, made safe to show: no character of it moves a cursor, starts a line or changes a color."""


def printable(text: str, limit: int | None = None) -> str:
    """Return a text with all characters that are not printable as escapes, such as `\\n` and `\\x1b`.

    Args:
        limit: longest result in characters; what is cut off is replaced by `…`.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
