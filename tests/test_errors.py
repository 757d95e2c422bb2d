"""The error tree in the docstring is the tree of the classes."""

import inspect
import pickle
import re

import edgepose.errors
from edgepose.engine.kserve import ServerError
from edgepose.errors import EdgeposeError, EndOfStream, SourceError

_LINE = re.compile(r"^ {4}(?P<indent>[│├└─ ]*)(?P<name>\w+) +(?P<code>\d+)  \S", re.MULTILINE)


def test_the_docstring_draws_every_error_below_its_base_with_its_exit_code() -> None:
    drawn: dict[str, tuple[str | None, int]] = {}
    path: list[str] = []
    for line in _LINE.finditer(edgepose.errors.__doc__ or ""):
        depth = len(line["indent"]) // 4
        drawn[line["name"]] = (path[depth - 1] if depth else None, int(line["code"]))
        path[depth:] = [line["name"]]
    classes = [error for _, error in inspect.getmembers(edgepose.errors, inspect.isclass) if issubclass(error, EdgeposeError)]
    bases = {error.__name__: error.__mro__[1].__name__ if error is not EdgeposeError else None for error in classes}
    assert drawn == {error.__name__: (bases[error.__name__], error.exit_code) for error in classes}


def test_every_error_owns_its_exit_code() -> None:
    for name, error in inspect.getmembers(edgepose.errors, inspect.isclass):
        assert "exit_code" in vars(error), name


def test_every_error_comes_through_a_process_pool_whole() -> None:
    source, end, server = SourceError("no file", "not_found"), EndOfStream("the end"), ServerError("gone", "failing", unknown=True)
    kinds = [error for _, error in inspect.getmembers(edgepose.errors, inspect.isclass) if issubclass(error, EdgeposeError)]
    plain = [kind("why") for kind in kinds if not issubclass(kind, SourceError)]
    for error in (source, end, server, *plain):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
