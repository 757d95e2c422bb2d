"""The figures of a configuration on labeled clips."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepose.config.schema import Config
from edgepose.errors import ConfigError
from edgepose_export.callbacks import Progress
from edgepose_export.evaluation.elevations import elevation_group
from edgepose_export.evaluation.tracks.clips import LabeledClip, read_clips
from edgepose_export.evaluation.tracks.event_scores import EventCount, score_events, total_events
from edgepose_export.evaluation.tracks.ground import ground_drift
from edgepose_export.evaluation.tracks.identities import Identities, count_identities, match_frames, total_identities
from edgepose_export.evaluation.tracks.run import ClipRunner
from edgepose_export.evaluation.tracks.steadiness import Delay, JitterSum, measure_delay, measure_jitter, no_delay


@dataclass(frozen=True, slots=True, eq=False)
class ClipScore:
    """The figures of one clip.

    Attributes:
        clip: what was measured.
        identities: counts of people and track numbers.
        jitter, delay: of the poses as they are published.
        rough_jitter, rough_delay: the same without smoothing.
        events: counts by kind; empty where events are not labeled.
        drift: as of `ground_drift`; None where the ground is not labeled, or the motion not measured.
    """

    clip: LabeledClip
    identities: Identities
    jitter: JitterSum
    delay: Delay
    rough_jitter: JitterSum
    rough_delay: Delay
    events: Mapping[str, EventCount]
    drift: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrackEvaluation:
    """The figures of all clips.

    Attributes:
        scores: of each clip.
        precision: number format of the pose network; `labels` where these took its place.
        refiner: file name of the refiner; empty where nobody is refined.
    """

    scores: Sequence[ClipScore]
    precision: str
    refiner: str

    def identities(self, chosen: Callable[[LabeledClip], bool] = lambda clip: True) -> Identities:
        """Return the counts of all clips, or of some."""
        return total_identities(score.identities for score in self.scores if chosen(score.clip))

    def events(self, elevation: int | None = None) -> dict[str, EventCount]:
        """Return the counts by kind, of all clips or those of one elevation; empty where events are not labeled."""
        counts = [score.events for score in self.scores if score.events and elevation in (None, _group(score.clip))]
        return total_events(dict(count) for count in counts) if counts else {}

    def elevations(self) -> list[int]:
        """Return the elevations of the clips, in groups."""
        return sorted({group for score in self.scores if (group := _group(score.clip)) is not None})

    def cameras(self) -> list[str]:
        """Return the movements of the cameras of the clips."""
        return sorted({score.clip.camera for score in self.scores if score.clip.camera})

    def jitter(self, chosen: Callable[[LabeledClip], bool], *, smoothed: bool = True) -> JitterSum:
        """Return the jitter of the people at rest in some clips."""
        scores = [score for score in self.scores if chosen(score.clip)]
        return sum((score.jitter if smoothed else score.rough_jitter for score in scores), JitterSum())

    def delay(self, chosen: Callable[[LabeledClip], bool], *, smoothed: bool = True) -> Delay:
        """Return the delay of the waving wrists in some clips."""
        scores = [score for score in self.scores if chosen(score.clip)]
        return sum((score.delay if smoothed else score.rough_delay for score in scores), no_delay())

    def drift(self, chosen: Callable[[LabeledClip], bool] = lambda clip: True) -> float | None:
        """Return the largest drift of the ground in all clips, or in some; None where it is unknown in all."""
        return max((score.drift for score in self.scores if score.drift is not None and chosen(score.clip)), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return the figures by the keys of `edgepose-export evaluate --tracks --json`, which are fixed.

        Jitter and lag are those before still cameras: of a person at rest before a moving one, smoothing holds the picture's motion back.
        """
        figures = {
            "clips": len(self.scores),
            **_identity_json(self.identities(), complete=all(score.clip.all_labeled for score in self.scores)),
            **self._steadiness_json(_with_still_camera),
            "ground_drift": self.drift(),
            "precision": self.precision,
            "refiner": self.refiner,
        }
        figures["by_elevation"] = {str(group): _identity_json(self.identities(_of_group(group))) for group in self.elevations()}
        figures["by_camera"] = {
            name: {
                **_identity_json(self.identities(_of_camera(name))),
                **self._steadiness_json(_of_camera(name)),
                "ground_drift": self.drift(_of_camera(name)),
            }
            for name in self.cameras()
        }
        figures["events"] = {
            kind: count.to_json() | {"by_elevation": {str(group): self.events(group)[kind].to_json() for group in self.elevations()}}
            for kind, count in self.events().items()
        }
        return figures

    def _steadiness_json(self, chosen: Callable[[LabeledClip], bool]) -> dict[str, Any]:
        return {
            "jitter_px": self.jitter(chosen).px,
            "jitter_bodies": self.jitter(chosen).bodies,
            "jitter_bodies_unsmoothed": self.jitter(chosen, smoothed=False).bodies,
            "lag_s": self.delay(chosen).lag_s,
            "lag_s_unsmoothed": self.delay(chosen, smoothed=False).lag_s,
            "waves": self.delay(chosen).waves,
        }


def evaluate_tracks(
    model: Path,
    data: Path,
    config: Config,
    *,
    groups: Sequence[str] = (),
    limit: int = 0,
    progress: Progress | None = None,
    true_people: bool = False,
) -> TrackEvaluation:
    """Measure a configuration of the runtime on labeled clips.

    Args:
        model: file of the pose network.
        data: folder of clips, see `edgepose_export.evaluation.tracks.clips`.
        config: of the runtime, for everything but the model's path, cameras and zones.
        groups: elevations of the clips to use, as texts; empty is all.
        limit: number of clips, from the first; 0 is all.
        progress: called after each frame; takes frames.
        true_people: whether the labels take the place of what the networks find.

    Raises:
        ConfigError: the data is refused.
        ModelError: a file is not what it should be.
        EngineError: the backend is unavailable, or fails.
    """
    clips = [clip for clip in read_clips(data) if not groups or str(_group(clip)) in groups]
    clips = clips[:limit] if limit else clips
    if not clips:
        raise ConfigError(f"{data} has no clips of the sets {', '.join(groups)}; expected elevations such as 0, 30, 60, 90")
    total = sum(len(clip.truth) for clip in clips)
    done = 0
    scores = []
    with ClipRunner(model, config, true_people=true_people) as runner:
        for clip in clips:

            def advance(frames: int, _: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + frames, total)

            scores.append(_score(runner, clip, config, advance))
            done += len(clip.truth)
    return TrackEvaluation(scores, "labels" if true_people else runner.precision, runner.refiner_name)


def _score(runner: ClipRunner, clip: LabeledClip, config: Config, progress: Progress) -> ClipScore:
    waves = any(event.kind == "waving" for event in clip.events or ())
    steady = config.smooth.enabled and (waves or any(labels.at_rest.any() for labels in clip.truth))
    tracked = runner.run(clip, compare=steady, progress=progress)
    matches = match_frames(clip.truth, tracked.people)
    threshold = config.pose.keypoint_threshold
    rough = tracked.unsmoothed if steady else tracked.people
    rough_matches = match_frames(clip.truth, rough) if steady else matches
    return ClipScore(
        clip=clip,
        identities=count_identities(clip.truth, tracked.people, matches, all_labeled=clip.all_labeled),
        jitter=measure_jitter(clip.truth, tracked.people, matches, threshold),
        delay=measure_delay(clip, tracked.people, matches, threshold),
        rough_jitter=measure_jitter(clip.truth, rough, rough_matches, threshold),
        rough_delay=measure_delay(clip, rough, rough_matches, threshold),
        events=score_events(clip, tracked, matches, config.events) if clip.events is not None else {},
        drift=ground_drift(clip.grounds, tracked.motions, *tracked.size) if clip.grounds is not None and any(tracked.motions) else None,
    )


def _identity_json(counts: Identities, *, complete: bool = True) -> dict[str, Any]:
    """Return the figures of identities; what needs every person to be labeled is null where that is not so."""
    return {
        "frames": counts.frames,
        "people": counts.people,
        "IDF1": counts.idf1 if complete else None,
        "switches": counts.switches,
        "fragments": counts.fragments,
        "kept_id": counts.kept_share,
        "found": counts.found / counts.labeled if counts.labeled else None,
        "false_per_frame": (counts.finds - counts.found) / counts.frames if complete and counts.frames else None,
    }


def _group(clip: LabeledClip) -> int | None:
    return None if clip.elevation_deg is None else elevation_group(clip.elevation_deg)


def _of_group(group: int) -> Callable[[LabeledClip], bool]:
    return lambda clip: _group(clip) == group


def _with_still_camera(clip: LabeledClip) -> bool:
    """Return whether people at rest stand still in the picture, too, as far as is known."""
    return clip.camera in ("", "still")


def _of_camera(name: str) -> Callable[[LabeledClip], bool]:
    return lambda clip: clip.camera == name
