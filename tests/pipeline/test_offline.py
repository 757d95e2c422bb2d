"""A whole file into files, by a program that is not the command."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgepose.config.aircraft import FixedConfig, FlightConfig, MountConfig
from edgepose.config.schema import Config, FilesConfig, RefineConfig
from edgepose.pipeline.offline.run import Summary, run
from edgepose.pipeline.offline.settings import offline_config
from testing.onnx_files import write_edgepose, write_refiner
from testing.videos import write_video


@pytest.fixture
def config(tmp_path: Path) -> Config:
    model = str(write_edgepose(tmp_path / "tiny.onnx"))
    source = str(write_video(tmp_path / "v.mp4", pictures=8, index=12))
    return offline_config(Config(refine=RefineConfig(people=0)), source, FilesConfig(jsonl=str(tmp_path / "poses.jsonl")), model=model)


def lines(config: Config) -> list[dict[str, Any]]:
    assert config.files.jsonl is not None
    return [json.loads(line) for line in Path(config.files.jsonl).read_text().splitlines()]


def test_every_frame_is_written_and_summed_up(config: Config) -> None:
    advanced = []
    summary = run(config, advance=lambda: advanced.append(1))
    written = lines(config)
    people = sum(len(line["people"]) for line in written)
    expected = Summary(8, 0, people, None, 0, summary.frames_per_second, "tiny.onnx", None, summary.backend, interrupted=False)
    assert summary == expected
    assert summary.backend.startswith("onnxruntime")
    assert summary.frames_per_second > 0
    assert [line["sequence"] for line in written] == list(range(8))
    assert len(advanced) == 8


def test_a_run_stops_between_two_frames(config: Config) -> None:
    frames: list[int] = []
    summary = run(config, advance=lambda: frames.append(1), stop=lambda: len(frames) == 3)
    assert (summary.frames, summary.interrupted, len(lines(config))) == (3, True, 3)


def test_a_refiner_is_named_and_its_people_are_counted(config: Config, tmp_path: Path) -> None:
    refiner = str(write_refiner(tmp_path / "again.onnx"))
    config = replace(config, refine=replace(config.refine, min_height_px=0))
    config = offline_config(config, config.cameras["v"].source, config.files, refiner=refiner)
    assert config.refine.people == config.pose.maximum_people
    summary = run(config)
    assert summary.refiner == "again.onnx"
    assert summary.refined is not None
    assert 0 < summary.people <= summary.refined  # doubles are refined, then dropped


def test_people_in_a_file_of_a_mast_have_places(config: Config) -> None:
    camera = replace(config.cameras["v"], mount=MountConfig(field_of_view_deg=60, pitch_deg=-60))
    fixed = FixedConfig(latitude=47.0, longitude=8.0, height_m=9.0)
    placed = replace(config, cameras={"v": camera}, flight=FlightConfig(source="fixed", fixed=fixed))
    run(placed)
    written = lines(config)
    assert {line["aircraft"]["state"] for line in written} == {"ok"}
    grounds = [person["ground"] for line in written for person in line["people"]]
    assert grounds
    assert all(abs(ground["lat"] - 47) < 0.001 and ground["radius_m"] > 0 for ground in grounds)
    flying = replace(placed, flight=FlightConfig(source="mqtt", topic="t"), files=FilesConfig(jsonl=f"{config.files.jsonl}2"))
    run(flying)  # telemetry of now says nothing about a file
    assert not any("aircraft" in line for line in lines(flying))


def test_still_pictures_are_not_tracked_unless_asked(tmp_path: Path) -> None:
    files = FilesConfig(jsonl="x")
    for source, track, tracked in (("a.png", None, False), (str(tmp_path), None, False), ("a.mp4", None, True), ("a.png", True, True)):
        assert offline_config(Config(), source, files, track=track).track.enabled == tracked
    assert list(offline_config(Config(), "rtsp://camera/stream", files).cameras) == ["stream"]
