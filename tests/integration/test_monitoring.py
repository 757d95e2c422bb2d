"""A daemon between a real camera and a real broker, watched by real tools: HTTP, promtool, Prometheus."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from testing.onnx_files import write_edgepose, write_refiner
from testing.servers.mosquitto import Mosquitto, free_port
from testing.servers.rtsp import RtspServer
from testing.waiting import wait_for

pytestmark = pytest.mark.xdist_group("monitoring")  # one daemon that is watched

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "edgepose.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "edgepose.json"

SUFFIXES = ("", "_total", "_info", "_bucket", "_sum", "_count")


class Daemon:
    """The daemon as a process."""

    def __init__(self, folder: Path, camera: RtspServer, broker: Mosquitto) -> None:
        self.port = free_port()
        self.log = folder / "daemon.log"
        self.config = folder / "config.yaml"
        self.config.write_text(
            f"device: drone\n"
            f"cameras: {{front: {{source: '{camera.url()}', read_timeout_s: 1, open_timeout_s: 2, reconnect_maximum_s: 1}}}}\n"
            f"model: {{path: {write_edgepose(folder / 'tiny.onnx')}, threads: 1}}\n"
            f"mqtt: {{host: 127.0.0.1, port: {broker.port}, reconnect_maximum_s: 1, keepalive_s: 2}}\n"
            f"health: {{interval_s: 0.5}}\n"
            f"refine: {{path: {write_refiner(folder / 'again.onnx')}, people: 1}}\n"
            f"monitoring: {{enabled: true, port: {self.port}}}\n"
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "edgepose", "run", "--config", str(self.config)], stderr=log, env={})

    def ask(self, path: str, accept: str = "*/*") -> tuple[int, str, str]:
        """Status, content type and body; 0 while nobody answers."""
        try:
            with urlopen(Request(f"http://127.0.0.1:{self.port}{path}", headers={"Accept": accept}), timeout=5) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read().decode()
        except URLError:
            return 0, "", ""

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample of that name and those labels."""
        for family in text_families(self.ask("/metrics")[2]):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return None

    def missing(self) -> list[str]:
        """What is missing to be ready; "nobody answers" before the daemon does."""
        status, _, body = self.ask("/healthz/ready")
        if not status:
            return ["nobody answers"]
        said = json.loads(body)
        assert (status == 200) == said["ready"] == (not said["missing"])
        return list(said["missing"])


@contextmanager
def observed(folder: Path) -> Iterator[tuple[Daemon, RtspServer, Mosquitto]]:
    with RtspServer(folder) as camera, Mosquitto(folder) as broker:
        daemon = Daemon(folder, camera, broker)
        try:
            wait_for(lambda: not daemon.missing(), within_s=30)
            wait_for(lambda: (daemon.value("edgepose_poses_published_total") or 0) > 10, within_s=20)
            yield daemon, camera, broker
        except BaseException:
            print(daemon.log.read_text())
            raise
        finally:
            daemon.process.kill()
            daemon.process.wait(60)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One that all is well with, for the tests that only look."""
    with observed(tmp_path_factory.mktemp("watched")) as (daemon, _, _):
        yield daemon


def names_in(expression: str) -> set[str]:
    """Metric names in a query."""
    return set(re.findall(r"\b(?:edgepose|process)_[a-z_0-9]+\b(?!\s*=)", re.sub(r'"[^"]*"', '""', expression)))


def rules() -> dict[str, str]:
    return {rule["alert"]: rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


def panels() -> dict[str, list[str]]:
    """Queries by title of the panel."""
    dashboard = json.loads(DASHBOARD.read_text())
    queries = {panel["title"]: [target["expr"] for target in panel.get("targets", [])] for panel in dashboard["panels"]}
    queries["annotations"] = [each["expr"] for each in dashboard["annotations"]["list"]]
    return {title: expressions for title, expressions in queries.items() if expressions}


def test_both_formats_say_the_same_and_are_read_by_the_clients_own_parsers(watched: Daemon) -> None:
    status, kind, text = watched.ask("/metrics")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    status, kind, openmetrics = watched.ask("/metrics", "application/openmetrics-text; version=1.0.0")
    assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
    plain = {family.name.removesuffix("_info") for family in text_families(text)}  # the older format knows no such type
    assert plain == {family.name for family in openmetrics_families(openmetrics)}
    assert len(plain) > 25


def test_numbers_are_those_of_the_daemon(watched: Daemon) -> None:
    samples = {(s.name, *sorted(s.labels.values())): s.value for f in text_families(watched.ask("/metrics")[2]) for s in f.samples}
    assert samples["edgepose_camera_state", "front", "streaming"] == 1
    assert samples["edgepose_mqtt_connected",] == 1
    assert samples["edgepose_poses_published_total", "front"] <= samples["edgepose_frames_received_total", "front"]
    later = samples["edgepose_pose_age_seconds_count", "front"] - samples["edgepose_poses_published_total", "front"]
    assert 0 <= later < 5  # read a moment after
    assert samples["edgepose_stage_duration_seconds_count", "engine"] > 10
    assert 0 < samples["edgepose_stage_duration_seconds_sum", "engine"] < samples["edgepose_pose_age_seconds_sum", "front"]
    assert 0 <= samples["edgepose_camera_last_frame_age_seconds", "front"] < 2
    assert 30e6 < samples["process_resident_memory_bytes",] < 400e6
    assert samples["process_threads",] > 4


def test_labels_are_few_and_none_is_about_one_person(watched: Daemon) -> None:
    families = list(text_families(watched.ask("/metrics")[2]))
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    build = {"version", "python", "model", "model_sha256", "refiner", "backend", "hardware", "precision"}
    assert labels - build <= {"camera", "stage", "cause", "state", "diagnosis", "degradation", "kind", "result", "sensor", "step", "le"}
    assert {sample.labels["camera"] for family in families for sample in family.samples if "camera" in sample.labels} == {"front"}
    assert sum(len(family.samples) for family in families) < 400


def test_names_end_in_base_units(watched: Daemon) -> None:
    for family in text_families(watched.ask("/metrics")[2]):
        assert not re.search(r"_(ms|mb|percent|milliseconds|megabytes|minutes)(_|$)", family.name), family.name
        assert family.documentation.endswith("."), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


@pytest.mark.needs("promtool")
def test_promtool_has_nothing_to_say(watched: Daemon) -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=watched.ask("/metrics")[2], capture_output=True, text=True, timeout=120)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "process_" not in line]  # the client's names are its own
    assert ours == []


def test_every_metric_is_documented(watched: Daemon) -> None:
    text = (DEPLOY.parent / "docs" / "observability.md").read_text()
    for family in text_families(watched.ask("/metrics")[2]):
        if not family.name.startswith("process_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = {label for sample in family.samples for label in sample.labels}
            row = re.search(rf"^\| `{name}` \| (.*?) ?\|", text, re.MULTILINE)
            assert row is not None, name
            assert labels <= set(row[1].split(", ")), name


def test_rules_and_dashboard_ask_for_what_there_is(watched: Daemon) -> None:
    there = {family.name + suffix for family in text_families(watched.ask("/metrics")[2]) for suffix in SUFFIXES}
    asked = {
        name for expression in [*rules().values(), *(e for queries in panels().values() for e in queries)] for name in names_in(expression)
    }
    assert len(asked) > 20
    assert asked <= there, asked - there


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identifiers)) == len(identifiers) > 20
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "device", "camera"]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["targets"]


@pytest.mark.needs("prometheus")
def test_prometheus_scrapes_it_and_answers_every_query_of_the_dashboard(watched: Daemon, tmp_path: Path) -> None:
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    scrape["global"] = {"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "500ms"}
    scrape["rule_files"] = [str(RULES)]
    scrape["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{watched.port}"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(scrape))
    port = free_port()
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"]

    def get(path: str, **query: str) -> Any:
        try:
            with urlopen(f"http://127.0.0.1:{port}/api/v1/{path}?{urlencode(query)}", timeout=10) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            with error:
                if error.code == 503:  # still starting
                    return None
                pytest.fail(f"{query}: {error.read().decode()}")
        except URLError:
            return None

    def result(expression: str) -> list[dict[str, Any]]:
        for variable, value in {"$device": ".*", "$camera": ".*", "$__rate_interval": "4s"}.items():
            expression = expression.replace(variable, value)
        answer = get("query", query=expression)
        return [] if answer is None else answer["result"]

    with (tmp_path / "prometheus.log").open("wb") as log:
        prometheus = subprocess.Popen(["prometheus", *options], stdout=log, stderr=log)
    try:
        wait_for(lambda: len(result("edgepose_people[3s]")[:1]) and len(result("edgepose_people[3s]")[0]["values"]) > 4, within_s=30)
        quiet = {
            "Camera faults", "Degraded", "Frames dropped by cause", "Stage restarts", "Messages dropped by cause",
            "Events per minute", "Temperature", "Throttled", "annotations",
        }  # fmt: skip
        for title, expressions in panels().items():
            for expression in expressions:
                found = result(expression)
                assert found or title in quiet, f"{title}: {expression} finds nothing"
                assert all("NaN" not in str(each["value"]) for each in found), f"{title}: {expression} is no number"
        alerts = {rule["name"]: rule for group in get("rules")["groups"] for rule in group["rules"]}
        assert set(alerts) == set(rules())
        assert {name: rule["lastError"] for name, rule in alerts.items() if rule.get("lastError")} == {}
        assert {name for name, rule in alerts.items() if rule["state"] == "firing"} == set()
    finally:
        prometheus.kill()
        prometheus.wait(60)


def test_ready_says_what_is_missing_and_the_port_outlives_all_that_changes(tmp_path: Path) -> None:
    with observed(tmp_path) as (daemon, camera, broker):
        assert daemon.ask("/healthz")[0] == daemon.ask("/livez")[0] == 200
        camera.kill()
        assert re.match(r"no camera is streaming: front is (failed|stalled) \(\w+\)", wait_for(daemon.missing, within_s=15)[0])
        assert daemon.value("edgepose_camera_state", camera="front", state="streaming") == 0
        broker.kill()
        wait_for(lambda: any(sentence.startswith("the broker is not connected: ") for sentence in daemon.missing()), within_s=15)
        assert daemon.value("edgepose_mqtt_connected") == 0
        assert daemon.ask("/healthz/live")[0] == 200
        assert daemon.ask("/readyz")[0] == daemon.ask("/healthz")[0] == 503
        camera.start()
        broker.start()
        wait_for(lambda: not daemon.missing(), within_s=15)
        assert daemon.value("edgepose_camera_reconnects_total", camera="front") == 1
        assert daemon.value("edgepose_mqtt_reconnects_total") == 1

        second = subprocess.run(
            [sys.executable, "-m", "edgepose", "run", "--config", str(daemon.config), "--set", "device=other"],
            capture_output=True,
            text=True,
            timeout=120,
            env={},
        )
        assert second.returncode == 69
        assert f"cannot listen on 127.0.0.1 port {daemon.port}: address already in use; expected" in second.stderr.splitlines()[-1]

        text = daemon.config.read_text()
        daemon.config.write_text(text.replace("cameras: {front: ", f"cameras: {{rear: {{source: '{camera.url()}'}}, front: "))
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.value("edgepose_camera_state", camera="rear", state="streaming") == 1, within_s=20)
        daemon.config.write_text(text)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: 'camera="rear"' not in daemon.ask("/metrics")[2], within_s=20)
        daemon.config.write_text(text + "nonsense: true\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.value("edgepose_reload_refused") == 1, within_s=20)
        daemon.config.write_text(text)

        daemon.process.terminate()
        assert daemon.process.wait(60) == 0


def test_a_camera_that_comes_and_goes_for_ten_seconds_fills_no_log(tmp_path: Path) -> None:
    with observed(tmp_path) as (daemon, camera, _):
        before = daemon.log.read_text().count("\n")
        cycles = 0
        end_s = time.monotonic() + 10
        while time.monotonic() < end_s:
            camera.restart()
            wait_for(lambda: not daemon.missing(), within_s=15)
            cycles += 1
        lines = daemon.log.read_text().splitlines()[before:]
        assert cycles >= 2
        assert 2 * cycles <= len(lines) <= 5 * cycles, "\n".join(lines)


def test_without_the_library_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['prometheus_client'] = None; from edgepose.cli.main import run; sys.exit(run(sys.argv[1:]))"
    settings = [
        f"model.path={write_edgepose(tmp_path / 'tiny.onnx')}", "mqtt.enabled=false", "monitoring.enabled=true", "monitoring.port=0",
        "cameras.a.source=rtsp://127.0.0.1:1/x",
    ]  # fmt: skip
    for command in ("run", "check"):
        arguments = [command, *(each for setting in settings for each in ("--set", setting))]
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120)
        assert done.returncode == 69, done.stdout + done.stderr
        said = " ".join((done.stdout + done.stderr).split())
        assert "prometheus-client, which is not installed here; expected it to be installed: pip install prometheus-client, or" in said
        assert "Traceback" not in done.stderr
