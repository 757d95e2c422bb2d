"""YAML that expands beyond its bounds."""

import pytest
import yaml

from edgepose.config.yaml_text import compose


def laughs(depth: int) -> str:
    return "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, depth))


def test_empty_and_ordinary_text() -> None:
    assert compose("") is None
    assert isinstance(compose("a: &x {b: [1, 2]}\nc: *x\n"), yaml.MappingNode)
    assert compose(laughs(3)) is not None


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        (laughs(40), "more than 20000 values", 5),
        ("a:\n  " + "[" * 2000, "nested more than 24 levels deep", 1),
        ("a: &a\n  - *a\n", r"the alias \*a lies inside", 1),
        ("a: *nobody", "undefined alias", 0),
        ("a: [1", "expected", 0),
    ],
)
def test_text_out_of_bounds_is_refused_with_its_line(text: str, problem: str, line: int) -> None:
    with pytest.raises(yaml.MarkedYAMLError, match=problem) as caught:
        compose(text)
    assert caught.value.problem_mark is not None
    assert caught.value.problem_mark.line == line
