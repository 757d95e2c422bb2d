"""A public class name means one class in the whole distribution."""

import re
from collections import Counter
from pathlib import Path

import edgepose

_CLASS = re.compile(r"^class ([A-Z]\w*)", re.MULTILINE)


def test_public_class_names_are_unique() -> None:
    modules = Path(edgepose.__file__).parent.rglob("*.py")
    names = Counter(name for module in modules for name in _CLASS.findall(module.read_text(encoding="utf-8")))
    assert [name for name, count in names.items() if count > 1] == []
