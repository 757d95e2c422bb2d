"""Fuzzing of configurations: each is loaded or refused in sentences."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edgepose.config.load import load
from edgepose.config.reference import keys
from edgepose.config.schema import Config
from edgepose.errors import ConfigError
from testing.fuzz.tally import Tally

T = TypeVar("T")

_PATIENCE_S = 5.0  # for one configuration of some kilobytes
_DEFAULTS = {key.path.replace("<name>", "front"): yaml.safe_load(key.default) for key in keys() if key.default != "(required)"}
_PATHS = [key.path.replace("<name>", "front") for key in keys()]

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400]),
    st.floats(),
    st.text(max_size=40),
    st.binary(max_size=20),
    st.dates(),
    st.datetimes(),
    st.sampled_from(["true", "1e999", ".nan", "0x1f", "1:30", "~", "=", "<<", "rtsp://a:b@c/d", "-", "/dev/null", "\0", "\ud800", "édité"]),
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.one_of(st.text(max_size=8), st.integers(), st.none()), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def _trees(draw: st.DrawFn) -> bytes:
    """Draw known keys with any values, and sometimes unknown keys, as YAML."""
    tree: dict[object, object] = {}
    for path in draw(st.lists(st.sampled_from(_PATHS), max_size=6)):
        parts = path.split(".")
        if draw(st.integers(0, 9)) == 0:
            parts[draw(st.integers(0, len(parts) - 1))] = draw(st.text(max_size=8))
        node: dict[object, object] = tree
        for part in parts[:-1]:
            inner = node.setdefault(part, {})
            node = inner if isinstance(inner, dict) else {}
        node[parts[-1]] = draw(st.one_of(_values, st.just(_DEFAULTS.get(path, "a/b"))))
    try:
        return yaml.dump(tree, allow_unicode=draw(st.booleans()), default_flow_style=draw(st.sampled_from([None, True, False]))).encode()
    except UnicodeEncodeError:
        return b"device: '\xed\xa0\x80'"


_GOOD = (
    b"device: drone\ncameras:\n  front: &front {source: 'rtsp://camera/stream', zones: {gate: [[0, 0], [1, 0], [1, 1]]}}\n"
    b"  rear: {<<: *front, loop: true}\nmodel: {path: default, threads: 2}\nmqtt: {host: broker, tls: {enabled: false}}\n"
    b"events: {disabled: [waving], enter_after_s: 1.5}\nlog: {level: debug}\n"
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """Draw a good file with pieces removed, doubled and inserted."""
    text = bytearray(_GOOD)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 12))
        piece = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from([b"&a ", b"*a", b"<<: ", b"!!python/object ", b"- ", b"? ", b"[{", b"'", b"\t", b"%"]),
            )
        )
        text[start : start + length] = draw(st.sampled_from([piece, bytes(text[start : start + length]) * 2]))
    return bytes(text)


_deep = st.integers(1, 3000).map(lambda depth: b"device: " + b"[" * depth)
_deep_blocks = st.integers(1, 300).map(lambda depth: b"".join(b" " * level + b"a:\n" for level in range(depth)))
_laughs = st.integers(1, 40).map(
    lambda depth: (
        b"a0: &a0 x\n"
        + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, depth))
        + b"cameras: {front: {source: x, zones: {gate: *a%d}}}\n" % (depth - 1)
    )
)
_files = st.one_of(
    _trees(),
    _damaged(),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=200),
    _deep,
    _deep_blocks,
    _laughs,
)
_settings = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.tuples(st.sampled_from(_PATHS), st.one_of(st.text(max_size=30), _values.map(repr))).map(lambda pair: f"{pair[0]}={pair[1]}"),
    ),
    max_size=4,
)
_variables = st.dictionaries(
    st.one_of(
        st.text(max_size=20).map("EDGEPOSE__".__add__),
        st.sampled_from(_PATHS).map(lambda path: "EDGEPOSE__" + path.replace(".", "__").upper()),
    ),
    st.text(max_size=30),
    max_size=3,
)


def _seldom(strategy: st.SearchStrategy[T], else_: T) -> st.SearchStrategy[T]:
    return st.integers(0, 3).flatmap(lambda number: strategy if number == 0 else st.just(else_))


def fuzz(count: int, told: Callable[[], None] = lambda: None) -> Tally:
    """Load that many configurations."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="edgepose-fuzz-") as folder:
        path = Path(folder) / "config.yaml"

        @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(_files, _seldom(_settings, []), _seldom(_variables, {}))
        def one(data: bytes, given_settings: list[str], variables: dict[str, str]) -> None:
            path.write_bytes(data)
            began_s = time.monotonic()
            try:
                outcome = "accepted" if isinstance(load(path, given_settings, variables), Config) else "wrong"
                detail = ""
            except ConfigError as error:
                outcome, detail = ("refused", "") if str(error).strip() else ("wrong", "an empty sentence")
            except Exception as error:
                outcome, detail = "wrong", f"{type(error).__name__}: {error}"
            if time.monotonic() - began_s > _PATIENCE_S:
                outcome, detail = "hang", f"{time.monotonic() - began_s:.1f} s"
            tally.add(outcome, f"{detail} for {data[:300]!r}, {given_settings!r}, {variables!r}" if detail else "")
            told()

        one()
    return tally
