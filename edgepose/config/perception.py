"""Sections of the configuration that say how people are found and followed: network, poses, tracks, refinement, tiles, motion."""

from typing import Annotated, Literal

from msgspec import Meta

from edgepose.config.fields import Fraction, Seconds, Section, file_key


class RemoteConfig(Section, frozen=True):
    """Networks on an inference server that speaks KServe v2 over gRPC, such as Triton."""

    timeout_s: Annotated[
        Seconds,
        Meta(description="longest wait for the server's answer; a frame that takes longer is dropped, and the server counts as slow"),
    ] = 2.0
    header: Annotated[
        str | None,
        Meta(
            description="shipped model or ONNX file whose description holds for the pose network on the server; default: the server's own,"
            " the parameters edgepose.* of the model",
            extra=file_key("model", "the description of the remote pose network"),
        ),
    ] = None
    refiner_header: Annotated[
        str | None,
        Meta(
            description="shipped refiner or ONNX file whose description holds for the refiner on the server; default: the server's own",
            extra=file_key("model", "the description of the remote refiner"),
        ),
    ] = None
    ca_file: Annotated[
        str | None,
        Meta(
            description="CA certificates (PEM) that the server is verified against; default: the system's",
            extra=file_key("read", "the CA file of the inference server"),
        ),
    ] = None
    certificate_file: Annotated[
        str | None, Meta(description="client certificate (PEM)", extra=file_key("read", "the client certificate for the inference server"))
    ] = None
    key_file: Annotated[
        str | None,
        Meta(
            description="private key of the client certificate (PEM)",
            extra=file_key("read", "the private key for the inference server"),
        ),
    ] = None
    shared_memory: Annotated[
        bool, Meta(description="pass images to a server on this machine in shared memory, if it accepts that; false sends them")
    ] = True


class ModelConfig(Section, frozen=True):
    """The pose network."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="name of a shipped model, path of an ONNX file, or a model on a server: triton+grpcs://HOST:8001/MODEL"
            " (triton+grpc:// on this machine only)",
            extra=file_key("model", "the model"),
        ),
    ] = "default"
    backend: Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt", "triton"],
        Meta(
            description="inference backend; auto uses tensorrt where it works and its engine gives the same people, otherwise the faster of"
            " cuda and cpu, measured at the start. A backend that is named is used, or the program ends. triton is the server in the path"
        ),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "int8"],
        Meta(
            description="precision of a shipped model, and of a shipped refiner; auto uses the file made for TensorRT on tensorrt, float32"
            " on cuda, and otherwise the one that was measured to be better on CPUs; a path is used as it is"
        ),
    ] = "auto"
    threads: Annotated[
        int, Meta(ge=0, le=256, description="threads of the CPU backend; 0 uses one thread per physical core, at most four")
    ] = 0
    input_size: Annotated[
        int, Meta(ge=0, le=4096, description="long side of the network input in pixels, a multiple of 32; 0 uses the model's own size")
    ] = 0
    engines: Annotated[
        str | None,
        Meta(
            description="folder of the engines that TensorRT built; null is `engines` in the service's state folder,"
            " /var/lib/edgepose/engines for root, otherwise ~/.cache/edgepose/engines",
            extra=file_key("folder", "the engines of TensorRT"),
        ),
    ] = None
    dla: Annotated[
        bool,
        Meta(description="run the engine of TensorRT on a DLA core; refused where the library reports none, or takes no INT8 file there"),
    ] = False
    remote: RemoteConfig = RemoteConfig()


class PoseConfig(Section, frozen=True):
    """Selection of people among the candidates."""

    score_threshold: Annotated[
        Fraction, Meta(description="people below this score are dropped, unless they continue a track (`track.low_score_threshold`)")
    ] = 0.3
    nms_oks: Annotated[
        Fraction, Meta(description="of two people whose poses are more similar (OKS) than this, the one with the lower score is dropped")
    ] = 0.7
    nms_iou: Annotated[
        Fraction, Meta(description="of two people whose boxes overlap (IoU) more than this, the one with the lower score is dropped")
    ] = 0.85
    keypoint_threshold: Annotated[
        Fraction, Meta(description="keypoints below this confidence are ignored in tracking, plausibility checks and drawing")
    ] = 0.2
    maximum_people: Annotated[int, Meta(ge=1, le=1000, description="maximum number of people per frame")] = 50


class TrackConfig(Section, frozen=True):
    """Tracking of people from frame to frame."""

    enabled: Annotated[bool, Meta(description="assign track numbers to people")] = True
    match_threshold: Annotated[
        Fraction, Meta(description="minimum similarity (mean of OKS and box IoU) between the same person in two frames")
    ] = 0.1
    max_lost_s: Annotated[Seconds, Meta(description="how long a lost track is kept before it is deleted")] = 1.5
    min_hits: Annotated[int, Meta(ge=1, le=100, description="detections before a track is confirmed and gets a number")] = 2
    low_score_threshold: Annotated[Fraction, Meta(description="minimum score of a detection that continues an existing track")] = 0.15


class RefineConfig(Section, frozen=True):
    """The second stage: a refiner that computes keypoints again in crops of the full-resolution frame."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="name of a shipped refiner, path of an ONNX file, or a refiner on a server",
            extra=file_key("model", "the refiner"),
        ),
    ] = "refine-n"
    people: Annotated[int, Meta(ge=0, le=1000, description="maximum number of people refined per frame; 0 disables refinement")] = 8
    budget_ms: Annotated[
        float,
        Meta(
            ge=0,
            le=10000,
            description="average time that refinement may take per frame, in milliseconds; 0 adapts it: people are refined while no live"
            " frame waits, and each track in at least every tenth frame",
        ),
    ] = 0.0
    min_height_px: Annotated[
        int,
        Meta(
            ge=0,
            le=10000,
            description="people whose box has a longer side (people lie, too) below this, in pixels of the frame, are not refined:"
            " they keep the first score, and their keypoints have confidence 0",
        ),
    ] = 24
    carry_frames: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="frames after a refinement in which a tracked person who is not refined keeps the refined pose, moved with the box;"
            " 0 disables this",
        ),
    ] = 10


class SmoothConfig(Section, frozen=True):
    """One-Euro filter of the keypoints, which holds those that jump to a second place and back."""

    enabled: Annotated[bool, Meta(description="smooth the keypoints of tracked people")] = True
    minimum_cutoff_hz: Annotated[
        float, Meta(gt=0, le=1000, description="cutoff frequency for a person at rest; a lower one smooths more")
    ] = 0.5
    speed_coefficient: Annotated[
        float, Meta(ge=0, le=1000, description="increase of the cutoff frequency with speed, in Hz per body size per second")
    ] = 16.0
    speed_cutoff_hz: Annotated[float, Meta(gt=0, le=1000, description="cutoff frequency of the speed estimate")] = 3.0


class TilesConfig(Section, frozen=True):
    """Tiles: parts of a large frame that the pose network sees in full resolution, besides the whole frame."""

    enabled: Annotated[
        bool,
        Meta(
            description="visit tiles of frames that are larger than the network's input, in idle time; `edgepose infer` visits all tiles of"
            " every frame"
        ),
    ] = True
    scale: Annotated[float, Meta(ge=1, le=2, description="pixels of the network's input per pixel of the frame in a tile; 2 enlarges")] = (
        1.0
    )
    period_s: Annotated[Seconds, Meta(description="time within which every tile is visited, as far as idle time allows")] = 2.0
    per_frame: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="maximum number of tiles visited per frame of a live camera; 0 adapts it: those due, while no live frame waits",
        ),
    ] = 0
    draw: Annotated[bool, Meta(description="draw the tiles of live cameras, with the ages of their visits, on annotated frames")] = False


class MotionConfig(Section, frozen=True):
    """Motion of the camera, measured on the ground; people are tracked relative to it."""

    enabled: Annotated[
        bool,
        Meta(description="measure the motion of the camera from frame to frame, so that tracks, smoothing and events move with the ground"),
    ] = True


class PlausibilityConfig(Section, frozen=True):
    """Geometric plausibility checks of a pose."""

    enabled: Annotated[bool, Meta(description="lower the confidence of keypoints at implausible positions")] = True
    maximum_bone_ratio: Annotated[float, Meta(gt=0, le=100, description="longest plausible limb, in body sizes")] = 1.0
    maximum_speed: Annotated[float, Meta(gt=0, le=1000, description="highest plausible speed of a keypoint, in body sizes per second")] = (
        12.0
    )
