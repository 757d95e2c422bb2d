"""Command `edgepose demo`: everything from a video to a topic, on this machine alone."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepose.cli.options import model_option

if TYPE_CHECKING:
    from edgepose.config.schema import Config
    from edgepose.web.live.page import LivePage

_BROKER_S = 5.0


@click.command(
    "demo", short_help="See it work, with nothing but a video.", epilog="Example: edgepose demo rtsp://camera.local/stream --seconds 30"
)
@click.argument("source", required=False)
@model_option
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    metavar="DIR",
    help="Folder for the annotated video.",
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after this time, in seconds, for streams that never end.")
def command(source: str | None, model: str | None, output: Path, seconds: float | None) -> None:
    """Turn the people of a real video into skeletons on an MQTT topic, and show them in a live table.

    Needs no root, no configuration and no network: broker and daemon run here, and end with the video. SOURCE is a video
    file, a folder of images or a stream; without it, the video that `make demo` fetches is used, or the packaged clip.

    With the extra `web`, it prints a link to a live page, by which anybody on this machine can look on while it runs.
    """
    import os
    import tempfile
    import time
    from contextlib import ExitStack

    from edgepose.capture.redact import describe
    from edgepose.capture.source import missing_file, path_of
    from edgepose.cli.live_table import shown
    from edgepose.cli.log import log_to_stderr
    from edgepose.config.schema import CameraConfig, Config, FilesConfig, LogConfig, ModelConfig, MqttConfig, WebConfig
    from edgepose.daemon.daemon import Daemon
    from edgepose.daemon.supervise import supervise
    from edgepose.diagnostics.bench_sources import FETCHED_VIDEO, PACKAGED_VIDEO, video_at_hand
    from edgepose.errors import OutputError, SourceError, UsageError
    from edgepose.messages.live_table import LiveTable
    from edgepose.mqtt.embedded_broker import EmbeddedBroker
    from edgepose.mqtt.subscriber import Subscriber
    from edgepose.supervision.signals import signals
    from edgepose.supervision.systemd import Notifier

    log_to_stderr("error")
    video_file = source or video_at_hand()
    if video_file is None:
        raise UsageError(f"no video was found ({FETCHED_VIDEO}, {PACKAGED_VIDEO}); expected one as SOURCE, such as: edgepose demo walk.mp4")
    path = path_of(video_file)
    if path is not None and not path.exists():  # here the whole path may be shown; the daemon would say `file`
        raise SourceError(missing_file(path), "not_found")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder {output} cannot be created: {error.strerror}; expected a writable folder (--output DIR)") from error
    video, poses = output / "annotated.mp4", output / "poses.jsonl"
    # The signals first: Ctrl-C in the middle of a start would leave a traceback of whatever was being started.
    with signals() as (stop, reason), EmbeddedBroker() as broker, tempfile.TemporaryDirectory() as folder:
        mqtt = MqttConfig(host="127.0.0.1", port=broker.port)
        config = Config(
            device="demo",
            cameras={"video": CameraConfig(source=video_file)},
            model=ModelConfig(path=model) if model is not None else ModelConfig(),
            mqtt=mqtt,
            files=FilesConfig(video=str(video), jsonl=str(poses)),
            log=LogConfig(level="error"),
            web=WebConfig(enabled=True, live_port=0),
        )
        live_table = LiveTable(mqtt.prefix)
        topics = ["edgepose/demo/#"]
        # Before the table, which is drawn again and again in the place where the cursor is.
        click.echo(f"watching {path.name if path is not None else describe(video_file)}")
        click.echo(f"messages: mqtt://127.0.0.1:{broker.port}, topic edgepose/demo/#")
        with Subscriber(mqtt, topics, lambda topic, payload: live_table.take(topic, payload, time.monotonic())), ExitStack() as shown_until:
            page = live_page_of(config, Path(folder))
            daemon = Daemon(config, Notifier({}, os.getpid()), forever=False, overwrite=True, service=page)
            daemon.start(broker_within_s=_BROKER_S)
            if page is not None:
                click.echo(f"live page: {page.guest_url}")
            start_s = time.monotonic()
            screen = shown_until.enter_context(shown(live_table, video_time=path_of(video_file) is not None))

            def each_turn() -> None:
                screen.draw()
                if seconds is not None and time.monotonic() - start_s > seconds:
                    stop.set()

            supervise(daemon, stop, reason, each_turn)
            elapsed_s = time.monotonic() - start_s
            screen.draw()
    counts = daemon.snapshot().metrics.camera("video")
    click.echo(
        f"{counts.published} frames in {elapsed_s:.1f} s ({counts.published / elapsed_s:.1f} frames/s), "
        f"at most {live_table.most_people} people at once, {live_table.messages} messages over MQTT"
    )
    click.echo(
        f"{live_table.entered} times somebody was seen for a second or more; {len(live_table.tracks)} track numbers were given"
        " (a person who is lost from sight for a while is counted again)"
    )
    for cause, frames in counts.dropped.items():
        click.echo(f"dropped: {frames} ({cause})")
    click.echo(f"annotated video: {video}\nposes, one message per line: {poses}")


def live_page_of(config: "Config", folder: Path) -> "LivePage | None":
    """Return the live page of this run, open to all who have its link; None without the extra `web`."""
    import secrets

    from edgepose.cli.serve import refuse_without_extra
    from edgepose.errors import UnavailableError

    try:
        refuse_without_extra("the live page")
    except UnavailableError:
        return None
    from edgepose.web.live.page import LivePage

    return LivePage(config, folder, guest=secrets.token_urlsafe(24))
