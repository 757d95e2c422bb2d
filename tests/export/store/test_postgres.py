"""A store whose rows are in a real PostgreSQL, written by a role that may do nothing else."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from edgepose.errors import ConfigError, OutputError
from testing.fleet_publisher import now_us
from testing.killed_store import fleet_event, fleet_messages
from testing.requirements import missing
from testing.servers.postgres import Postgres

if reason := missing("psycopg", "duckdb", "postgres"):
    pytest.skip(reason, allow_module_level=True)

import psycopg

from edgepose_export.store.counts import StoreCounts
from edgepose_export.store.forgotten import Oblivion
from edgepose_export.store.journal import Received
from edgepose_export.store.postgres_sink import PostgresSink, checked_address, tables_sql
from edgepose_export.store.rows import Rows

DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as running:
        with psycopg.connect(running.address(), autocommit=True) as owner:
            owner.execute(tables_sql())
            owner.execute("CREATE ROLE store LOGIN; GRANT edgepose_writer TO store")
        yield running


@pytest.fixture
def sink(server: Postgres) -> Iterator[PostgresSink]:
    with psycopg.connect(server.address(), autocommit=True) as owner:
        owner.execute("DELETE FROM edgepose.poses; DELETE FROM edgepose.events")
    opened = PostgresSink(server.address("store"))
    yield opened
    opened.close()


def made(messages: list[tuple[str, bytes]]) -> Rows:
    result = Rows("edgepose", StoreCounts())
    result.add(Received(topic.encode(), payload, now_us()) for topic, payload in messages)
    return result


def asked(server: Postgres, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.address()) as owner:
        found: list[tuple[Any, ...]] = owner.execute(sql).fetchall()
        return found


def test_rows_are_kept_once(server: Postgres, sink: PostgresSink) -> None:
    first = made([*fleet_messages(0, 50), fleet_event(1)])
    assert sink.add(first.poses, first.events) == (50, 100, 1)
    again = made([*fleet_messages(0, 60), fleet_event(2)])
    again.poses.captured_us[:50] = first.poses.captured_us
    assert sink.add(again.poses, again.events) == (10, 20, 1)
    assert sink.add(first.poses, first.events) == (0, 0, 0)
    assert asked(server, "SELECT count(*), count(DISTINCT (device, sequence)) FROM edgepose.poses") == [(60, 60)]
    person = asked(
        server,
        "SELECT track, score, x, keypoints[1][1][1] FROM edgepose.people WHERE device = 'drone-3' AND sequence = 0 AND person = 2",
    )
    rows, number = first.poses, first.poses.keys.index(("drone-3", "5e55", "front", 0, 0)) * 2 + 1
    assert person == [
        pytest.approx((rows.tracks[number], rows.scores[number], rows.boxes[number][0], rows.keypoints[number][0][0]), rel=1e-5)
    ]
    assert asked(server, "SELECT kind, evidence::text, box[4] FROM edgepose.events LIMIT 1") == [("fallen", "{}", 2.0)]


def test_days_are_partitions_that_are_dropped_whole(server: Postgres, sink: PostgresSink) -> None:
    rows = made(fleet_messages(0, 3))
    rows.poses.captured_us = [now_us() - days * DAY_US for days in (0, 5, 50)]
    assert sink.add(rows.poses, rows.events)[0] == 3
    assert sink.retain(30) == 2  # of each table
    assert asked(server, "SELECT count(*) FROM edgepose.poses") == [(2,)]
    plan = asked(server, "EXPLAIN SELECT * FROM edgepose.poses WHERE captured_at > now() - interval '1 day'")
    assert "Subplans Removed" in str(plan)


def test_the_store_s_role_may_do_nothing_else(server: Postgres, sink: PostgresSink) -> None:
    with psycopg.connect(server.address("store"), autocommit=True) as store:
        for sql in (
            "DELETE FROM edgepose.poses",
            "DROP TABLE edgepose.poses",
            "CREATE TABLE edgepose.x ()",
            "UPDATE edgepose.poses SET clock = ''",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                store.execute(sql)
    with pytest.raises(OutputError, match="permission denied"):
        sink.forget(Oblivion(device="drone-1", before_us=now_us()))


def test_forget_needs_a_role_that_may_delete(server: Postgres, sink: PostgresSink) -> None:
    rows = made([*fleet_messages(0, 20), fleet_event(1)])
    sink.add(rows.poses, rows.events)
    owner = PostgresSink(server.address())
    assert owner.forget(Oblivion(device="drone-1", before_us=now_us() + 1_000_000)) == 2
    owner.close()
    assert asked(server, "SELECT count(*) FROM edgepose.poses WHERE device = 'drone-1'") == [(0,)]


def test_a_server_that_restarts_is_used_again(server: Postgres, sink: PostgresSink) -> None:
    rows = made(fleet_messages(0, 5))
    sink.add(rows.poses, rows.events)
    server.kill()
    more = made(fleet_messages(5, 5))
    with pytest.raises(OutputError, match="does not take the rows"):
        sink.add(more.poses, more.events)
    server.start()
    assert sink.add(more.poses, more.events)[0] == 5


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql://store:secret@127.0.0.1/poses", "expected it in a file"),
        ("host=db.example.com sslmode=require", "expected verify-full"),
        ("host=db.example.com sslmode=disable", "expected verify-full"),
        ("nonsense", "is no address"),
    ],
)
def test_addresses_that_give_something_away_are_refused(address: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        checked_address(address)


def test_other_machines_are_reached_with_verified_tls_only() -> None:
    assert "sslmode=verify-full" in checked_address("postgresql://store@db.example.com/poses")
    assert "sslmode" not in checked_address("postgresql://store@localhost/poses")


def test_the_statements_are_printed() -> None:
    done = subprocess.run([sys.executable, "-m", "edgepose_export", "store", "sql"], capture_output=True, text=True)
    assert done.stdout == tables_sql()
