"""A store at a real broker: each message once, through kills; nothing hostile ends it."""

import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from msgspec.structs import replace
from paho.mqtt.publish import single

from edgepose.config.schema import MqttConfig, TlsConfig
from edgepose.errors import UnavailableError, UsageError
from edgepose.event import Event
from edgepose.messages import compact
from edgepose.messages.compose import event_message
from edgepose.messages.structs import encode, timestamp
from testing.fleet_publisher import FleetPublisher, now_us, publish_packet, some_poses
from testing.killed_store import killed_store
from testing.requirements import missing
from testing.servers.certificates import Authority
from testing.servers.mosquitto import Mosquitto
from testing.waiting import wait_for

if reason := missing("duckdb", "mosquitto"):
    pytest.skip(reason, allow_module_level=True)

from edgepose_export.store.forgotten import Oblivion, remember
from edgepose_export.store.parquet_sink import ParquetSink
from edgepose_export.store.query import run_query
from edgepose_export.store.service import Store, StoreSettings, only_writer

POSES = some_poses(20)
EVENT = Event("fallen", "front", 0, 7, 0, 0, "rtcp", 3, 0.9, (1.0, 2.0, 3.0, 4.0), 1280, 720, evidence={"duration_s": 1.5})
DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    lines = "max_inflight_messages 0\nmax_queued_messages 0\nmessage_size_limit 0"
    with Mosquitto(tmp_path_factory.mktemp("broker"), lines=lines) as running:
        yield running


def poses(device: str, sequence: int, at_us: int | None = None, **changes: Any) -> tuple[str, bytes]:
    at_us = now_us() if at_us is None else at_us
    message = replace(POSES[sequence % 20], session="5e55", sequence=sequence, captured_at=timestamp(at_us * 1000), **changes)
    return f"edgepose/{device}/cameras/front/poses", encode(message)


def event(device: str, number: int) -> tuple[str, bytes]:
    one = Event("fallen", "front", 0, number, time.time_ns(), time.time_ns(), "rtcp", 3, 0.9, (1.0, 2.0, 3.0, 4.0), 1280, 720)
    return f"edgepose/{device}/cameras/front/events", encode(event_message(one))


@contextmanager
def running(folder: Path, broker: Mosquitto, mqtt: MqttConfig | None = None, **settings: Any) -> Iterator[Store]:
    values = StoreSettings(folder=folder, client_id=folder.name, flush_s=0.2, **settings)
    store = Store(values, mqtt or MqttConfig(host="127.0.0.1", port=broker.port), ParquetSink(folder))
    stop, failures = threading.Event(), []

    def run() -> None:
        try:
            store.run(stop)
        except BaseException as error:
            failures.append(error)

    with only_writer(folder):
        thread = threading.Thread(target=run)
        thread.start()
        try:
            wait_for(store.receiver.connected.is_set)
            yield store
        finally:
            stop.set()
            thread.join(60)
    assert not failures
    assert not thread.is_alive()


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    return list(run_query(folder, sql))[1:]


def test_messages_are_kept_once_and_gaps_stay_gaps(tmp_path: Path, broker: Mosquitto) -> None:
    at_us = now_us()
    sent = [poses("drone-1", sequence, at_us + sequence) for sequence in (0, 1, 2, 5, 6, 6, 1)]
    alarm = event("drone-1", 1)
    empty = poses("drone-2", 0, at_us, people=[])
    compact_topic = "edgepose/drone-3/cameras/front/poses"
    packed = compact.encode(replace(POSES[0], session="00000000005e5500", captured_at=timestamp(at_us * 1000)))
    with running(tmp_path / "store", broker) as store, FleetPublisher(broker.port) as publisher:
        publisher.publish([*sent[:4], alarm])
        wait_for(lambda: store.counts.values()["poses"] == 4)
        publisher.publish([*sent[4:], alarm, empty, (compact_topic, packed), event("drone-1", 2)])
        publisher.send(publish_packet(*poses("drone-2", 1, at_us + 1)))  # QoS 0
        wait_for(lambda: store.counts.values()["events"] == 2 and store.counts.values()["poses"] == 8)
    folder = tmp_path / "store"
    assert rows(folder, "SELECT sequence FROM poses WHERE device = 'drone-1' ORDER BY 1") == [(0,), (1,), (2,), (5,), (6,)]
    assert rows(folder, "SELECT count(*), count(DISTINCT id) FROM events") == [(2, 2)]
    assert rows(folder, "SELECT len(people) FROM poses WHERE device = 'drone-2' ORDER BY sequence") == [(0,), (2,)]
    assert store.counts.values()["drops"] == {"duplicate": 3}
    nose = POSES[1].people[0].keypoints[0]
    found = rows(folder, "SELECT keypoints[1].x, keypoints[1].y, score FROM people WHERE device='drone-1' AND sequence=1 AND track=0")
    assert found == [pytest.approx((nose[0], nose[1], POSES[1].people[0].score))]
    assert rows(folder, "SELECT session, epoch(captured_at) FROM poses WHERE device = 'drone-3'") == [
        ("00000000005e5500", pytest.approx(at_us / 1e6, abs=1e-3))
    ]


def hostile() -> list[tuple[str | bytes, bytes]]:
    topic, good = poses("drone-9", 0)
    text = good.decode()
    other_time = timestamp(253402300000 * 10**9)  # in the year 9999
    nan = bytearray(compact.encode(replace(POSES[0], captured_at=timestamp(now_us() * 1000))))
    struct.pack_into("<f", nan, 36, float("nan"))
    infinite = msgspec.msgpack.encode(msgspec.json.decode(good) | {"age_ms": float("inf")})
    people = msgspec.json.decode(good)["people"]
    return [
        ("edgepose/../cameras/front/poses", good),
        ("edgepose/a/b/cameras/front/poses", good),
        ("edgepose/';--/cameras/front/poses", good),
        (f"edgepose/{'n' * 60_000}/cameras/front/poses", good),
        ("edgepose/drone-9/cameras/../poses", good),
        ("edgepose/drone-9/cameras/back/poses", good),
        (topic, bytes(nan)),
        (topic, infinite),
        (topic, text.replace('"score":0.8', '"score":NaN').encode()),
        (topic, text.replace('"sequence":0', '"sequence":99999999999999999999').encode()),
        (topic, text.replace('"sequence":0', '"sequence":9223372036854775808').encode()),
        (topic, text.replace('"schema":1', '"schema":2').encode()),
        (topic, encode(replace(POSES[0], captured_at=other_time))),
        (topic, encode(replace(POSES[0], captured_at="9999-12-31T23:59:59.999999+00:00"))),
        (topic, encode(replace(POSES[0], captured_at="yesterday"))),
        (topic, encode(replace(POSES[0], captured_at=timestamp(0)))),
        (topic, encode(replace(POSES[0], session="../../x", captured_at=timestamp(now_us() * 1000)))),
        (topic, msgspec.json.encode(msgspec.json.decode(good) | {"people": people * 600})),
        (topic, b""),
        (topic, b"[" * 100_000),
        (topic, os.urandom(5000)),
        (topic, b"x" * (3 << 20)),
        ("edgepose/drone-9/cameras/front/events", b'{"schema":1,"id":"' + b"i" * 60_000 + b'"}'),
    ]


def test_hostile_devices_are_counted_by_cause_and_the_store_lives(tmp_path: Path, broker: Mosquitto) -> None:
    folder = tmp_path / "hostile"
    with running(folder, broker) as store, FleetPublisher(broker.port) as publisher:
        publisher.publish(hostile())
        publisher.publish([poses("good", 0)])
        wait_for(lambda: store.counts.values()["poses"] == 1)
    drops = store.counts.values()["drops"]
    assert drops == {
        "device_name": 3,  # the one with 'a/b' is not of a topic that is subscribed to
        "camera_name": 2,
        "not_finite": 2,
        "malformed": 7,
        "number": 2,
        "schema": 1,
        "time": 3,
        "too_many_people": 1,
        "too_large": 1,
    }
    assert rows(folder, "SELECT DISTINCT device FROM poses") == [("good",)]
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "part" not in path.name)
    assert files == ["files.lock", "writer.lock"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile"]


def test_a_message_of_100_mb_is_thrown_away_as_it_comes(tmp_path: Path, broker: Mosquitto) -> None:
    with running(tmp_path / "large", broker) as store, FleetPublisher(broker.port) as publisher:
        publisher.publish([("edgepose/drone-9/cameras/front/poses", bytes(100 << 20)), poses("good", 0)])
        wait_for(lambda: store.counts.values()["poses"] == 1, within_s=30)
    assert store.counts.values()["drops"] == {"too_large": 1}


def test_killed_again_and_again_it_keeps_each_message_once(tmp_path: Path, broker: Mosquitto) -> None:
    folder = tmp_path / "killed"
    done = killed_store(folder, broker.port, kills=3, every_s=0.4)
    assert done.poses > 100
    assert done.events > 10
    found = rows(folder, "SELECT count(*), count(DISTINCT (device, session, camera, epoch, sequence)) FROM poses")
    assert found == [(done.poses, done.poses)]
    assert rows(folder, "SELECT count(*), count(DISTINCT id) FROM events") == [(done.events, done.events)]


def test_forget_removes_a_device_from_a_running_store(tmp_path: Path, broker: Mosquitto) -> None:
    folder = tmp_path / "forget"
    with running(folder, broker) as store, FleetPublisher(broker.port) as publisher:
        publisher.publish([poses("drone-1", n) for n in range(5)] + [poses("drone-2", 0), event("drone-1", 1)])
        wait_for(lambda: store.counts.values()["poses"] == 6)
        late = poses("drone-1", 7)
        request = Oblivion(device="drone-1", before_us=now_us())
        remember(folder, request)
        assert ParquetSink(folder).forget(request) == 6
        publisher.publish([late, poses("drone-1", 8)])  # the first was captured before the request
        wait_for(lambda: store.counts.values()["poses"] == 7)
    assert rows(folder, "SELECT device, sequence FROM poses ORDER BY 1") == [("drone-1", 8), ("drone-2", 0)]
    assert rows(folder, "SELECT count(*) FROM events") == [(0,)]
    assert store.counts.values()["drops"] == {"forgotten": 1}


def test_old_days_go(tmp_path: Path, broker: Mosquitto) -> None:
    folder = tmp_path / "old"
    now = now_us()
    with running(folder, broker) as store, FleetPublisher(broker.port) as publisher:
        publisher.publish([poses("drone-1", days, now - days * DAY_US) for days in (0, 5, 40)])
        wait_for(lambda: store.counts.values()["poses"] == 3)
    assert ParquetSink(folder).retain(30) == 1
    with running(folder, broker, retain_days=3) as store, FleetPublisher(broker.port) as publisher:
        publisher.publish([poses("drone-1", 9, now - 20 * DAY_US)])
        wait_for(lambda: store.counts.values()["drops"] == {"expired": 1})
    assert rows(folder, "SELECT sequence FROM poses") == [(0,)]


def test_small_files_are_merged_and_nothing_is_kept_twice(tmp_path: Path) -> None:
    from edgepose_export.store.counts import StoreCounts
    from edgepose_export.store.journal import Received
    from edgepose_export.store.rows import Rows

    sink, at_us = ParquetSink(tmp_path), 1_796_000_000_000_000
    for turn in range(40):
        made = Rows("edgepose", StoreCounts())
        made.add(Received(topic.encode(), payload, at_us) for topic, payload in [poses("a", n, at_us + n) for n in range(turn, turn + 3)])
        assert sink.add(made.poses, made.events)[0] == (3 if turn == 0 else 1)
    assert rows(tmp_path, "SELECT count(*), count(DISTINCT sequence) FROM poses") == [(42, 42)]
    assert len(list(tmp_path.glob("poses/*/*.parquet"))) == 2 + 40 % 16


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_over_tls_with_a_password_through_a_restart_of_the_broker(tmp_path: Path, protocol: Literal["5", "3.1.1"]) -> None:
    authority, at_us = Authority(tmp_path), now_us()
    (tmp_path / "password").write_text("secret\n")
    tls = (authority.certificate, *authority.issue("broker", host="localhost"))
    with Mosquitto(tmp_path, users={"store": "secret"}, tls=tls) as broker:
        password, ca_file = str(tmp_path / "password"), str(authority.certificate)
        mqtt = MqttConfig(
            host="localhost",
            port=broker.port,
            protocol=protocol,
            username="store",
            password_file=password,
            tls=TlsConfig(enabled=True, ca_file=ca_file),
        )

        def publish(sequence: int) -> None:
            topic, payload = poses("drone-1", sequence, at_us)
            login: Any = {"username": "store", "password": "secret"}
            single(topic, payload, 1, hostname="localhost", port=broker.port, client_id="drone-1", auth=login, tls={"ca_certs": ca_file})

        with running(tmp_path / "tls", broker, mqtt) as store:
            publish(0)
            wait_for(lambda: store.counts.values()["poses"] == 1)
            broker.restart()
            wait_for(lambda: publish(1) or store.counts.values()["poses"] == 2, within_s=20, every_s=0.5)  # type: ignore[func-returns-value]
    assert rows(tmp_path / "tls", "SELECT sequence FROM poses ORDER BY 1") == [(0,), (1,)]


def test_a_query_reads_nothing_but_the_store(tmp_path: Path, broker: Mosquitto) -> None:
    ParquetSink(tmp_path / "store")
    (tmp_path / "secret.csv").write_text("a\n1\n")
    assert rows(tmp_path / "store", "SELECT count(*) FROM people") == [(0,)]
    for sql in (f"SELECT * FROM '{tmp_path}/secret.csv'", f"COPY poses TO '{tmp_path}/out.csv'", "SET enable_external_access = true"):
        with pytest.raises(UsageError, match="expected SQL over the views"):
            rows(tmp_path / "store", sql)


def test_the_example_queries_of_the_page_run(tmp_path: Path) -> None:
    ParquetSink(tmp_path)
    page = (Path(__file__).parents[3] / "docs" / "store.md").read_text(encoding="utf-8")
    queries = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    assert len(queries) == 5
    assert [rows(tmp_path, query) for query in queries] == [[]] * 5


def test_two_stores_in_one_folder_are_refused(tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(UnavailableError, match="expected a folder of its own"), only_writer(tmp_path):
        pass


def test_it_needs_no_torch() -> None:
    names = "edgepose_export.cli.store, edgepose_export.store.service, edgepose_export.store.query, edgepose_export.store.parquet_sink"
    done = subprocess.run([sys.executable, "-c", f"import sys, {names}; print('torch' in sys.modules)"], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
