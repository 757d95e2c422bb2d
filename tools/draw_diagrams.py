"""Draws the diagrams of docs/ as SVG files: python tools/draw_diagrams.py.

Each diagram is a function of nothing, so tests/test_site.py fails when a file in docs/images is out of date. The files carry their own
background and use no script, no style sheet and no font of another host: they look the same on a light page and on a dark one.
"""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"

COLORS = {
    "camera": ("#e3f2fd", "#1565c0"),
    "work": ("#e8f5e9", "#2e7d32"),
    "store": ("#fff8e1", "#9a5b00"),
    "main": ("#f3e5f5", "#6a1b9a"),
    "outside": ("#f5f5f5", "#616161"),
    "refused": ("#ffebee", "#c62828"),
}
"""Fill and outline by the kind of a box."""

_FONT = 'font-family="Helvetica, Arial, DejaVu Sans, sans-serif"'
_LINE_PX = 17


class Diagram:
    """A drawing of boxes and arrows, in pixels from the top left corner."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size = (width, height)
        self._title = title
        self._parts: list[str] = []

    def frame(self, x: int, y: int, width: int, height: int, title: str) -> None:
        """Draw a dashed frame around a group of boxes, with its title at the top left."""
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="12" fill="#fafafa" stroke="#90a4ae" stroke-dasharray="6 4"/>'
        )
        self.text(x + 14, y + 22, title, size=14, weight="bold", anchor="start", color="#455a64")

    def box(self, x: int, y: int, width: int, height: int, title: str, lines: Sequence[str] = (), kind: str = "work") -> None:
        """Draw a box with a bold title and lines of text below it, centered."""
        fill, outline = COLORS[kind]
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{outline}" stroke-width="1.5"/>'
        )
        top = y + (height - _LINE_PX * len(lines)) // 2 + 5
        self.text(x + width // 2, top, title, size=13, weight="bold", color=outline)
        for number, line in enumerate(lines, 1):
            self.text(x + width // 2, top + number * _LINE_PX, line, size=12)

    def text(
        self, x: int, y: int, text: str, *, size: int = 12, weight: str = "normal", anchor: str = "middle", color: str = "#263238"
    ) -> None:
        """Write one line; `y` is its base line."""
        self._parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'
        )

    def arrow(self, *points: tuple[int, int], label: str = "", at: tuple[int, int] | None = None, dashed: bool = False) -> None:
        """Draw an arrow through the points, with a label at a place."""
        path = " ".join(f"{x},{y}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="#455a64" stroke-width="1.8"{dash} marker-end="url(#tip)"/>')
        if label and at is not None:
            self.text(*at, label, size=11, color="#455a64")

    def svg(self) -> str:
        """Return the drawing as the text of an SVG file."""
        width, height = self._size
        parts = "\n".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" {_FONT}>\n'
            f"<title>{escape(self._title)}</title>\n"
            '<defs><marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
            '<path d="M0,0 L9,4 L0,8 z" fill="#455a64"/></marker></defs>\n'
            f'<rect x="1" y="1" width="{width - 2}" height="{height - 2}" rx="14" fill="#ffffff" stroke="#cfd8dc"/>\n'
            f"{parts}\n</svg>\n"
        )


def architecture() -> Diagram:
    """Draw the device as a whole, and what is around it."""
    d = Diagram(1200, 560, "edgepose: from cameras through one process to MQTT, files and Prometheus")
    d.frame(205, 20, 780, 520, "edgepose, one process on the device")
    d.text(595, 533, "Frames move in one direction. No queue can grow. Every wait has a deadline.", color="#455a64")
    d.box(20, 75, 150, 120, "Cameras", ["RTSP, HTTP, RTMP", "UDP, RTP, TCP", "CSI, V4L2", "GStreamer, files"], "outside")
    d.box(225, 75, 130, 120, "Camera threads", ["one a camera", "read", "letterbox"], "camera")
    d.box(390, 75, 120, 120, "Frame slots", ["one frame", "a camera", "newest wins"], "store")
    d.box(545, 75, 150, 120, "Inference thread", ["pose network", "INT8"], "work")
    d.box(730, 75, 235, 120, "Postprocess thread", ["decode, track, refine,", "smooth, check, events"], "work")
    for left, right in ((170, 225), (355, 390), (510, 545), (695, 730)):
        d.arrow((left, 135), (right, 135))

    d.box(20, 245, 150, 75, "edgepose-export", ["on a workstation:", "train, quantize"], "outside")
    d.box(545, 245, 150, 75, "Model file", ["self-describing", "ONNX"], "store")
    d.arrow((170, 282), (545, 282))
    d.arrow((620, 245), (620, 195))

    d.box(760, 245, 95, 75, "Outbox", ["bounded;", "newest wins"], "store")
    d.box(870, 245, 95, 75, "File writer", ["JSON, CSV,", "video"], "store")
    d.box(545, 350, 150, 75, "Black box", ["last minutes,", "without pixels"], "store")
    d.box(760, 350, 205, 75, "Publisher thread", ["MQTT 5 or 3.1.1, TLS"], "work")
    d.arrow((807, 195), (807, 245))
    d.arrow((917, 195), (917, 245))
    d.arrow((740, 195), (740, 387), (695, 387))
    d.arrow((807, 320), (807, 350))

    d.box(225, 350, 285, 75, "Main thread", ["hang detector, watchdog, reload,", "commands, health; touches no frame"], "main")
    d.box(225, 450, 740, 60, "Monitoring port", ["/metrics and /healthz, from one snapshot of all parts"], "main")
    d.arrow((367, 425), (367, 450))

    d.box(1020, 245, 160, 75, "Files", ["poses, tables,", "annotated video"], "outside")
    d.box(1020, 350, 160, 75, "MQTT broker", ["and its subscribers"], "outside")
    d.box(1020, 450, 160, 60, "Prometheus", ["and probes"], "outside")
    for y in (282, 387, 480):
        d.arrow((965, y), (1020, y))
    return d


def frame() -> Diagram:
    """Draw the way of a frame, with the causes by which it may end before it becomes a pose."""
    d = Diagram(1200, 430, "The way of a frame")
    lanes = (
        (20, "Camera thread", "camera", ["Source.read()", "clock: rtcp, stream, host", "fresh? whole? moving?", "Preprocessor: letterbox"]),
        (
            260,
            "LatestFrameSlots",
            "store",
            ["one QueuedFrame a camera", "a newer one takes its place", "cameras take turns", "files wait for a free slot"],
        ),
        (500, "Inference thread", "work", ["Backend.run()", "raw boxes, scores,", "keypoints of K candidates", "then one free slot"]),
        (
            740,
            "Postprocess thread",
            "work",
            ["decode ▸ suppress ▸ track", "▸ refine ▸ smooth", "▸ plausibility ▸ events", "state of tracks: here only"],
        ),
        (
            980,
            "Delivery",
            "store",
            ["outbox: newest pose a topic", "events: queue and store", "file writer: its own queue", "black box: its own queue"],
        ),
    )
    for x, title, kind, lines in lanes:
        d.box(x, 60, 200, 130, title, lines, kind)
    for x in (220, 460, 700, 940):
        d.arrow((x, 125), (x + 40, 125))
    d.text(240, 50, "PreparedFrame")
    d.text(480, 50, "QueuedFrame")
    d.text(720, 50, "InferenceResult")
    d.text(960, 50, "FrameResult")
    losses = (
        (20, ["stale", "corrupt", "frozen", "superseded"]),
        (260, ["superseded", "stale"]),
        (500, ["engine_failed"]),
        (740, ["pose_failed", "stale"]),
        (980, ["writer_busy", "writer_failed"]),
    )
    for x, causes in losses:
        d.box(x, 250, 200, 105, "Counted as", causes, "refused")
        d.arrow((x + 100, 190), (x + 100, 250), dashed=True)
    d.text(
        600, 385, "Every frame of a live camera becomes a pose message or is counted by its cause (health: cameras.<name>.drops).", size=13
    )
    d.text(
        600,
        409,
        "writer_busy and writer_failed: the pose is published; only the files miss it. Poses that the broker misses: message_drops.",
        size=13,
    )
    return d


def status() -> Diagram:
    """Draw the way of a status."""
    d = Diagram(1200, 510, "The way of a status")
    parts = (
        ("Pipeline", "PipelineStats", "camera states, restarts, light"),
        ("MqttPublisher", "PublisherStats", "sent, drops, reconnects"),
        ("Metrics", "MetricsStats", "frames, people, durations"),
        ("BlackBox", "RecorderStats", "records lost, by cause"),
        ("Sensors", "MachineStats", "memory, heat, throttling"),
    )
    middle = 225
    for number, (name, stats, what) in enumerate(parts):
        y = 25 + 82 * number
        d.box(20, y, 210, 66, name, [what], "work")
        d.box(275, y, 160, 66, stats, ["one frozen value"], "store")
        d.arrow((230, y + 33), (275, y + 33))
        d.arrow((435, y + 33), (455, y + 33), (455, middle), (485, middle))
    d.box(485, middle - 50, 195, 100, "DaemonSnapshot", ["Daemon.snapshot():", "all parts, one moment"], "main")
    functions = (
        ("health_message", "(snapshot, previous)", ("topic health", "every 5 s")),
        ("prometheus", "(snapshot)", ("/metrics", "when scraped")),
        ("readiness", "(snapshot)", ("/healthz/live", "/healthz/ready")),
    )
    for number, (name, arguments, goes) in enumerate(functions):
        y = 60 + 120 * number
        d.box(740, y, 220, 90, name, [arguments], "main")
        d.arrow((680, middle), (710, middle), (710, y + 45), (740, y + 45))
        d.box(1010, y + 10, 170, 70, goes[0], goes[1:], "outside")
        d.arrow((960, y + 45), (1010, y + 45))
    d.text(600, 462, "Each part makes its value in one step. No number is copied up through layers of properties.", size=13)
    d.text(600, 486, "Only the health message empties the latency samples. A scrape never does.", size=13)
    return d


def reload() -> Diagram:
    """Draw the way of a reload."""
    d = Diagram(1200, 400, "The way of a reload")
    d.box(20, 110, 150, 90, "Request", ["SIGHUP, systemctl", "reload, or the", "command reload"], "outside")
    steps = (
        (215, "1  Load", ["file, environment,", "--set of the start", "into one Config"]),
        (425, "2  Compare", ["Changes.between", "(old, new):", "what differs"]),
        (635, "3  Prepare", ["open model, files,", "password, certificates", "beside what runs"]),
    )
    d.frame(195, 50, 640, 190, "reload thread: everything that can be refused")
    for x, title, lines in steps:
        d.box(x, 105, 180, 100, title, lines, "camera")
    d.box(880, 105, 180, 100, "4  Apply", ["main thread, between", "two turns: exchange", "only what differs"], "main")
    d.arrow((170, 155), (215, 155))
    d.arrow((395, 155), (425, 155))
    d.arrow((605, 155), (635, 155))
    d.arrow((815, 155), (880, 155), label="PreparedReload", at=(847, 95))
    d.box(1095, 110, 90, 90, "In use", ["reply ok"], "work")
    d.arrow((1060, 155), (1095, 155))
    d.box(
        215,
        290,
        600,
        70,
        "Refused as a whole; the old configuration stays",
        ["what was opened is closed; log, health: reload_refused, reply: refused"],
        "refused",
    )
    for x in (305, 515, 725):
        d.arrow((x, 205), (x, 290), dashed=True)
    return d


LAYERS: Sequence[tuple[Sequence[tuple[str, str]], str]] = (
    ((("cli", "one thin module a command"),), "outside"),
    ((("web", "page, HTTP API, accounts"),), "outside"),
    (
        (
            ("api", "people in three lines"),
            ("bundles", "signed, for a fleet"),
            ("diagnostics", "check, doctor, bench"),
            ("simulation", "walkers by seed"),
        ),
        "outside",
    ),
    ((("daemon", "puts it together: health, reload, commands"),), "main"),
    ((("pipeline", "the way of a frame: threads and slots"),), "main"),
    ((("validation", "what can be refused before anything starts"),), "main"),
    (
        (
            ("capture", "stream ▸ Frame"),
            ("engine", "tensor ▸ raw"),
            ("pose", "raw ▸ Person"),
            ("events", "Person ▸ Event"),
            ("flight", "places"),
            ("output", "files, overlay"),
            ("mqtt", "broker, outbox"),
            ("recorder", "black box"),
            ("webhook", "HTTPS"),
        ),
        "work",
    ),
    (
        (
            ("messages", "the wire contract"),
            ("telemetry", "metrics, sensors"),
            ("supervision", "threads, watchdog"),
            ("storage", "records that verify"),
        ),
        "camera",
    ),
    ((("encryption", "how every stored file is opened, clear or encrypted"),), "camera"),
    ((("config", "one tree of structs"), ("model", "what a model file says")), "store"),
    (
        (
            ("pixels", ""),
            ("frame", ""),
            ("person", ""),
            ("event", ""),
            ("motion", ""),
            ("tile", ""),
            ("printable", ""),
            ("errors", ""),
            ("ground", ""),
            ("earth", ""),
        ),
        "store",
    ),
)
"""Packages from the top of the import rule to its bottom, each with what it holds, and the kind of their boxes."""


def packages() -> Diagram:
    """Draw the packages in the layers of the import rule."""
    d = Diagram(1200, 764, "The packages of edgepose and the import rule")
    for row, (names, kind) in enumerate(LAYERS):
        gap = 12
        width = (1050 - gap * (len(names) - 1)) // len(names)
        for column, (name, what) in enumerate(names):
            d.box(20 + column * (width + gap), 20 + row * 62, width, 50, name, [what] if what else [], kind)
    d.arrow((1120, 30), (1120, 684), label="", at=None)
    d.text(1140, 300, "imports", size=12, anchor="start", color="#455a64")
    d.text(545, 724, "A package imports from the rows below it, never from a row above, and never from its own row.", size=13)
    d.text(545, 746, "edgepose_export may import edgepose; edgepose imports neither edgepose_export nor torch.", size=13)
    return d


DIAGRAMS: dict[str, Callable[[], Diagram]] = {
    "architecture.svg": architecture,
    "frame.svg": frame,
    "status.svg": status,
    "reload.svg": reload,
    "packages.svg": packages,
}


def main() -> None:
    """Write all diagrams again."""
    for name, draw in DIAGRAMS.items():
        (IMAGES / name).write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
