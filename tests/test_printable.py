import pytest

from edgepose.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 鶴", "plain é 鶴"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[2J\x07\x7f", r"\x1b[2J\x07\x7f"),
        ("\x9b31m\u2028", r"\x9b31m\u2028"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_are_shown_as_escapes(text, shown):
    assert printable(text) == shown


def test_long_text_is_cut_and_chosen_characters_stay():
    assert printable("x" * 100, 10) == "x" * 9 + "…"
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"
