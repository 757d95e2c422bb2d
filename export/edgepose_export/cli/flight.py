"""`edgepose-export flight`."""

from pathlib import Path

import click
from rich.console import Console

from edgepose_export.flight.formats import geojson, kml
from edgepose_export.flight.log import read_log
from edgepose_export.flight.page import Orthophoto, map_page
from edgepose_export.steps import replace_text


@click.command(epilog="Example: edgepose-export flight recordings --orthophoto field.jpg --bounds 8.540,47.395,8.550,47.400")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), help="Folder to write into.  [default: FOLDER]")
@click.option("--title", help="Title of the map.  [default: the folder's name]")
@click.option("--orthophoto", type=click.Path(path_type=Path, dir_okay=False), help="Photograph from above, north on top, under the paths.")
@click.option("--bounds", metavar="WEST,SOUTH,EAST,NORTH", help="Edges of the orthophoto in degrees.")
def flight(folder: Path, output: Path | None, title: str | None, orthophoto: Path | None, bounds: str | None) -> None:
    """Write the paths of a flight from recorded messages (*.jsonl) as GeoJSON, as KML and as a map that loads nothing."""
    if (orthophoto is None) != (bounds is None):
        raise click.UsageError("--orthophoto and --bounds belong together; expected both or neither")
    photo = None if orthophoto is None or bounds is None else Orthophoto(orthophoto, *_edges(bounds))
    log = read_log(folder)
    into, name = output or folder, title or f"Flight {folder.resolve().name}"
    into.mkdir(parents=True, exist_ok=True)
    replace_text(into / "flight.geojson", geojson(log))
    replace_text(into / "flight.kml", kml(log, name))
    replace_text(into / "flight.html", map_page(log, name, photo))
    lost = f"; {sum(log.without.values())} messages have no places, {log.unreadable} lines are unreadable"
    Console(stderr=True).print(
        f"{log.messages} messages, {len(log.people)} people, {len(log.events)} events -> {into}/flight.geojson, .kml, .html{lost}"
    )


def _edges(text: str) -> tuple[float, float, float, float]:
    try:
        west, south, east, north = map(float, text.split(","))
    except ValueError as error:
        raise click.UsageError(f"--bounds {text} is not four numbers; expected WEST,SOUTH,EAST,NORTH in degrees") from error
    return west, south, east, north
