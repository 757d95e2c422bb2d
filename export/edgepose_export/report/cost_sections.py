"""The sections about robustness, pictures from above, time, size and what INT8 does to each layer."""

from html import escape
from typing import Any

from edgepose_export.evaluation.predictor import STAGES
from edgepose_export.evaluation.robustness import STRENGTH_WORDS
from edgepose_export.report.accuracy_sections import Columns, names_of
from edgepose_export.report.html import charts, figure, legend, number, part_legend, percent, section, table
from edgepose_export.report.svg import Axis, Mark, Series, StackedBar, bar_chart, line_chart, stem_chart

ROBUST_SHARE = 0.9
"""Share of the clean accuracy that the paper claims (section X)."""

_CORRUPTIONS = {
    "noise": ("Noise", "Sensor noise; gray levels of 255"),
    "occlusion": ("Occlusion", "A gray box hides part of each person; share of the box's area"),
    "low light": ("Low light", "Darker and noisier; share of the light"),
    "blur": ("Blur", "Out of focus"),
    "jpeg": ("Compression", "JPEG artifacts; quality of 100"),
    "far away": ("Far", "The camera is farther away; people's size"),
    "rolled": ("Rolled", "The camera is tilted to a side"),
    "turned by a quarter": ("Turned", "People lie, or the camera looks from above"),
}

_BUSY_LOAD = 0.5
"""Load of the machine from which other programs disturb the measurement."""

_SHOWN_DB = 60
"""Largest ratio that is drawn."""

_STAGES = {
    "letterbox": "resize the picture",
    "network": "pose network",
    "decode": "decode people",
    "refine": "refine poses",
}


def robustness_section(columns: Columns) -> str:
    """Return the accuracy that is left under each corruption, by its strength."""
    measured = [column for column in columns if "robustness" in column]
    if not measured:
        return ""
    figures, rows = [], []
    for name, (title, text) in _CORRUPTIONS.items():
        lines = []
        for index, column in enumerate(measured):
            shares = _shares(column, name)
            lines.append(Series(column["name"], index, [(0, 1.0), *((n, share) for n, share in enumerate(shares, 1))], [3.5] * 4))
            rows.append((f"{title}, {column['name']}" if len(measured) > 1 else title, "", [percent(share) for share in shares]))
        axis = Axis.of(["clean", *STRENGTH_WORDS[name]], "")
        chart = line_chart(title, axis, Axis.share("AP, share of clean", 1.1), lines, marks=[Mark("90 %", y=ROBUST_SHARE)], height=200)
        figures.append(figure(title, text, chart))
    clean = measured[0]["robustness"]["clean"]
    lead = (
        f"How much of the average precision is left when the same {clean['images']} pictures get worse, in three strengths. 1 is as "
        "good as on clean pictures. The dashed line at 90 % is what the paper behind this project asks for."
    )
    numbers = table(["share of the clean AP", "weak", "medium", "strong"], rows)
    content = f"{legend(names_of(measured))}{charts(figures)}<details><summary>Numbers</summary>{numbers}</details>"
    return section("robustness", "Robustness", lead, content)


def _shares(column: dict[str, Any], name: str) -> list[float | None]:
    clean = column["robustness"]["clean"]["AP"]
    return [strength["AP"] / clean if clean > 0 else None for strength in column["robustness"]["corrupted"][name]]


def boxes_section(columns: Columns) -> str:
    """Return how well people are found, on the pictures of the report and from above."""
    sets = columns[0]["boxes"]
    networks = [column["files"][0]["file"].removesuffix(".onnx") for column in columns]
    parts = []
    keys = (
        ("box_AP50", "AP50 of boxes: people found, roughly in their place"),
        ("box_AP", "AP of boxes, over all thresholds of overlap"),
        ("recall_lt24", "share found of people below 24 px"),
        ("recall_24_48", "of 24 to 48 px"),
        ("recall_gt48", "above 48 px"),
        ("false_per_image", "false finds a picture; less is better"),
    )
    for number_of_set, entry in enumerate(sets):
        groups = entry["groups"]
        head = ["", *(f"{name}{f', {group}' if len(groups) > 1 else ''}" for group in groups for name in networks)]
        rows = []
        for key, meaning in keys:
            cells = [number(column["boxes"][number_of_set]["groups"][group][key]) for group in groups for column in columns]
            rows.append((key.replace("_", " "), meaning, cells))
        counts = ", ".join(f"{group}: {values['images']} pictures, {values['boxes']} people" for group, values in groups.items())
        parts.append(f"<h3>{escape(entry['data'])}</h3><p class='muted'>{escape(counts)}</p>{table(head, rows)}")
    lead = (
        "How well the pose network alone finds people: only boxes are compared, so keypoints and refiners do not count. From a drone, "
        "people are small, and from straight above they hardly look like people."
    )
    return section("boxes", "Finding people" + (", from above too" if len(sets) > 1 else ""), lead, "".join(parts))


def latency_section(columns: Columns, machine: str) -> str:
    """Return the time of each stage, and of the pose network by pictures a call."""
    measured = [column for column in columns if "latency" in column]
    if not measured:
        return ""
    threads = list(measured[0]["latency"]["threads"])
    longest = max(column["latency"]["threads"][count]["stages"]["all"]["p95"] for column in measured for count in threads)
    figures = [_stages(measured, count, longest) for count in threads]
    shared = [_batches(measured, count) for count in threads if any(len(_batch(column, count)) > 1 for column in measured)]
    used = [
        (number_of, _STAGES[stage])
        for number_of, stage in enumerate(STAGES)
        if any(stage in _times(column, threads[0]) for column in measured)
    ]
    rows = []
    for count in threads:
        for column in measured:
            for stage, values in _times(column, count).items():
                name = f"{column['name']}, {_threads(count)}: {'all' if stage == 'all' else _STAGES[stage]}"
                rows.append((name, "", [f"{values[key]:.2f}" for key in ("p50", "p95", "p99", "mean")]))
    refined = ", ".join(f"{column['name']} {column['latency']['refined']:.2f}" for column in measured if column["latency"]["refined"])
    lead = (
        f"Measured on {machine}, with the program's own stages, picture by picture in turn. p50: half of the pictures take at "
        "most this long; p95, p99: 95 and 99 of a hundred."
    )
    load = measured[0]["latency"]["load"]
    if load > _BUSY_LOAD:
        lead += f" Other programs used the processors too (load {load:.1f} at the start), so everything took longer than it would alone."
    if refined:
        lead += f" People refined a picture: {refined}."
    numbers = f"<details><summary>Numbers, in milliseconds</summary>{table(['', 'p50', 'p95', 'p99', 'mean'], rows)}</details>"
    return section("latency", "Time", lead, part_legend(used) + charts(figures) + charts(shared) + numbers)


def _times(column: dict[str, Any], threads: str) -> dict[str, dict[str, float]]:
    return dict(column["latency"]["threads"][threads]["stages"])


def _batch(column: dict[str, Any], threads: str) -> dict[str, dict[str, float]]:
    return dict(column["latency"]["threads"][threads]["batches"])


def _threads(count: str) -> str:
    return "one thread" if count == "1" else f"{'two' if count == '2' else count} threads"


def _stages(measured: Columns, threads: str, longest: float) -> str:
    bars = []
    for column in measured:
        times = _times(column, threads)
        whole = times["all"]
        parts = [(index, times[stage]["p50"]) for index, stage in enumerate(STAGES) if stage in times]
        note = f"p50 {whole['p50']:.1f} · p95 {whole['p95']:.1f} · p99 {whole['p99']:.1f} ms"
        bars.append(StackedBar(column["name"], note, parts, (whole["p95"], whole["p99"])))
    title = f"A picture, {_threads(threads)}"
    text = "Parts of the bar: the median of each stage. Strokes: p95 and p99 of the whole, where they fit."
    return figure(title, text, bar_chart(title, bars, Axis.to(longest, "milliseconds")))


def _batches(measured: Columns, threads: str) -> str:
    sizes = sorted({int(size) for column in measured for size in _batch(column, threads)})
    places = {str(size): place for place, size in enumerate(sizes)}
    lines = []
    for index, column in enumerate(measured):
        points = [(places[size], values["p50"]) for size, values in _batch(column, threads).items()]
        lines.append(Series(column["name"], index, points, [3.5] * len(points)))
    highest = max(value for line in lines for _, value in line.points if value is not None)
    title = f"Pictures in one call, {_threads(threads)}"
    chart = line_chart(title, Axis.of([str(size) for size in sizes], "pictures in one call"), Axis.to(highest, "ms a picture"), lines)
    rows = [(str(size), "", [number(_batch(column, threads).get(str(size), {}).get("p50"), 2) for column in measured]) for size in sizes]
    text = "Time of the pose network a picture (median). A falling line: several cameras gain from sharing a call."
    return figure(title, text, legend(names_of(measured)) + chart, table(["pictures", *names_of(measured)], rows))


def size_section(columns: Columns) -> str:
    """Return the files, their sizes and their work."""
    rows = []
    for column in columns:
        for entry in column["files"]:
            cells = [
                entry["precision"],
                f"{entry['bytes'] / 1e6:.2f} MB",
                f"{entry['multiply_adds'] / 1e6:,.0f} M".replace(",", "\u202f"),
                percent(entry["int8_share"]) if entry["precision"] == "int8" else "–",
                f"<code>{entry['sha256'][:12]}</code>",
            ]
            rows.append((entry["file"], f"{column['name']}: {'pose network' if entry['task'] == 'pose' else 'refiner, a person'}", cells))
    lead = "Multiply-adds are the work of one picture at 320 x 320 pixels, or the file's own size; of a refiner, of one person."
    return section("size", "Size", lead, table(["file", "precision", "size", "multiply-adds", "of them INT8", "SHA-256"], rows))


def layers_section(columns: Columns) -> str:
    """Return the signal-to-noise ratio of each layer of INT8 files."""
    figures = []
    for index, column in enumerate(columns):
        for entry in column.get("layers", []):
            layers = entry["layers"]
            if not layers:
                continue
            stems = [
                (layer["SQNR_dB"], f"{layer['layer']}: {layer['SQNR_dB']:.1f} dB{'' if layer['int8'] else ', float'}", layer["int8"])
                for layer in layers
            ]
            lowest = sorted(layers, key=lambda layer: float(layer["SQNR_dB"]))[:3]
            text = "Lowest: " + "; ".join(f"{layer['layer']} {layer['SQNR_dB']:.0f} dB" for layer in lowest) + "."
            axis = Axis.to(_SHOWN_DB, "SQNR, dB")
            title = f"{entry['file']} against {entry['float']}"
            chart = stem_chart(title, "layers, from input to output", axis, stems, index, marks=[Mark("", y=20)])
            rows = [(layer["layer"], "", ["INT8" if layer["int8"] else "float", f"{layer['SQNR_dB']:.1f}"]) for layer in layers]
            figures.append(figure(title, text, chart, table(["layer", "computes in", "dB"], rows)))
    if not figures:
        return ""
    lead = (
        "INT8 rounds numbers to 256 steps. SQNR compares the signal of a layer with the error that all rounding up to there has made: "
        "20 dB, the dashed line, is an error of a tenth, 40 dB of a hundredth. More is better. Hollow dots are layers that compute in "
        "float, with the errors that they got."
    )
    return section("layers", "What INT8 does to each layer", lead, charts(figures))
