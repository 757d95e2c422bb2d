"""A daemon without a broker: what happens in a real video reaches a webhook, also while its receiver is slow, and health tells it."""

import subprocess
import sys
from pathlib import Path

from edgepose.daemon.health import DaemonSnapshot, health_message
from edgepose.daemon.prometheus import prometheus
from edgepose.diagnostics.bench_sources import video_at_hand
from edgepose.messages.structs import WebhookHealthMessage
from edgepose.webhook.sender import WebhookStats
from testing.servers.daemon import configuration, running
from testing.servers.mosquitto import Mosquitto
from testing.servers.webhook_receiver import WebhookReceiver
from testing.videos import write_video
from testing.waiting import wait_for


def test_events_of_a_video_are_posted_without_a_broker() -> None:
    video = video_at_hand()
    assert video is not None
    with WebhookReceiver() as receiver:
        receiver.answers = [503]
        keys = {
            "cameras.video.source": video,
            "mqtt.enabled": "false",
            "refine.people": "0",
            "tiles.enabled": "false",
            "webhook.url": receiver.url,
            "device": "drone",
        }
        settings = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "edgepose", "run", *settings]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=Path(__file__).parents[2])
        assert done.returncode == 0, done.stderr
        assert "entered" in {event["kind"] for event in receiver.events}
        assert {event["device"] for event in receiver.events} == {"drone"}
        identifiers = [event["id"] for event in receiver.events]
        assert len(identifiers) == len(set(identifiers))
        assert "answer 503; trying again" in done.stderr
        assert "secret-path" not in done.stderr


def test_a_reload_changes_the_webhook_and_health_shows_it(tmp_path: Path, broker: Mosquitto) -> None:
    video = write_video(tmp_path / "walk.mp4", 20)
    plain = configuration(tmp_path, broker, {"front": str(video)}).replace("read_timeout_s: 1", "loop: true, realtime: true")
    with WebhookReceiver() as receiver, running(tmp_path, broker, plain) as (daemon, heard):
        wait_for(lambda: heard.on("health") and "webhook" not in heard.on("health")[-1])
        daemon.reload(f"{plain}webhook: {{url: '{receiver.url}'}}\n")
        wait_for(lambda: heard.on("health")[-1].get("webhook") == {"delivered": 0, "waiting": 0, "failures": {}, "drops": {}})
        daemon.reload(f"{plain}webhook: {{url: '{receiver.url}', secret_file: {tmp_path / 'none'}}}\n")
        wait_for(lambda: "webhook.secret_file" in heard.on("health")[-1].get("reload_refused", ""))
        daemon.reload(plain)
        wait_for(lambda: "webhook" not in heard.on("health")[-1])


def test_health_and_metrics_of_a_webhook() -> None:
    stats = WebhookStats(delivered=3, waiting=2, failures={"timeout": 4}, drops={"gave_up": 1}, failure="timeout: no answer within 5 s")
    snapshot = DaemonSnapshot(webhook=stats)
    health = health_message(snapshot, None)
    assert health.webhook == WebhookHealthMessage(
        delivered=3, waiting=2, failures={"timeout": 4}, drops={"gave_up": 1}, failure="timeout: no answer within 5 s"
    )
    assert health.degraded == ["webhook_failing"]
    samples = {(one.name, *one.labels.values()): one.value for family in prometheus(snapshot) for one in family.samples}
    assert samples["edgepose_webhook_events_delivered_total",] == 3
    assert samples["edgepose_webhook_events_waiting",] == 2
    assert samples["edgepose_webhook_events_dropped_total", "gave_up"] == 1
    assert samples["edgepose_webhook_requests_failed_total", "timeout"] == 4
