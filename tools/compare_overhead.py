"""Core time outside the engine of this version against another one, in turns in one run.

    python -m tools.compare_overhead VIDEO OLD OLD_MODEL [--rounds 8] [--seconds 3]

OLD is a checkout of version b74093e, which runs in this environment, and OLD_MODEL a pose network that it can read. Each version plays
VIDEO in a process of its own, with refinement, tiles and camera motion off. The clocks of the threads tell the core time of each frame
without that of the network and of the decoder.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_WARM_S = 0.7


class _Clock:
    """The core time of one function, over all threads."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Any) -> Any:
        def timed(*arguments: Any, **named: Any) -> Any:
            began_s = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.thread_time() - began_s

        return timed


class _Encoder:
    """A publisher that encodes each message and discards it."""

    def __init__(self, encode: Any) -> None:
        self._encode = encode

    def publish_poses(self, camera: str, payload: Any) -> None:
        self._encode(payload)

    def publish(self, address: str, payload: Any, qos: int) -> None:
        self._encode(payload)


def _threads_s() -> float:
    """Return the core time of all threads of Python but this one, in seconds."""
    others = [thread.ident for thread in threading.enumerate() if thread is not threading.current_thread() and thread.ident]
    return sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in others)


def _pipelines(video: str, model: str, decoder: _Clock) -> tuple[Any, Any]:
    """Return a maker of pipelines of this version, and one of metrics."""
    from msgspec.structs import replace

    from edgepose.capture.stream import Stream
    from edgepose.config.schema import CameraConfig, Config
    from edgepose.engine.backend import open_backend, pose_model
    from edgepose.messages.structs import encode
    from edgepose.pipeline.delivery import Delivery
    from edgepose.pipeline.pipeline import Pipeline
    from edgepose.supervision.malloc import tune
    from edgepose.telemetry.metrics import Metrics

    tune()
    Stream.next_frame = decoder.around(Stream.next_frame)  # type: ignore[method-assign]
    config = Config(cameras={"bench": CameraConfig(source=video, loop=True)})
    config = replace(
        config,
        model=replace(config.model, path=model, backend="cpu"),
        refine=replace(config.refine, people=0),
        tiles=replace(config.tiles, enabled=False),
        motion=replace(config.motion, enabled=False),
    )
    file = pose_model(config.model)

    def pipeline(metrics: Metrics) -> Any:
        delivery = Delivery(_Encoder(encode), [], metrics)
        return Pipeline(
            config, file.info, lambda: open_backend(file, config.model), metrics, delivery.deliver, lambda _: None, forever=False
        )

    return pipeline, Metrics


def _pipelines_of_b74093e(video: str, model: str, decoder: _Clock) -> tuple[Any, Any]:
    """Return the same of b74093e, whose modules have other names."""

    def load(module: str, name: str) -> Any:
        return getattr(import_module(f"edgepose.{module}"), name)

    load("daemon.memory", "settle_memory")()
    stream, metrics_class = load("capture.stream", "Stream"), load("daemon.metrics", "Metrics")
    stream.next_picture = decoder.around(stream.next_picture)
    config = load("config", "Config")(cameras={"bench": load("config", "Camera")(source=video, loop=True)})
    file = load("model", "named_model")(model, "pose")

    def pipeline(metrics: Any) -> Any:
        delivery = load("daemon.delivery", "Delivery")(_Encoder(load("output.messages", "encode")), [], metrics)
        backend = load("engine.backend", "open_backend")
        return load("daemon.pipeline", "Pipeline")(
            config, file.info, lambda: backend(file, config.model), metrics, delivery.deliver, lambda _: None, forever=False
        )

    return pipeline, metrics_class


def _child(version: str, video: str, model: str) -> None:
    """Measure this process's version once for each line on standard input, and write the result as one line of JSON."""
    import onnxruntime

    network, decoder = _Clock(), _Clock()
    onnxruntime.InferenceSession.run = network.around(onnxruntime.InferenceSession.run)
    make = _pipelines_of_b74093e if version == "old" else _pipelines
    new_pipeline, new_metrics = make(video, model, decoder)
    for line in sys.stdin:
        metrics = new_metrics()
        pipeline = new_pipeline(metrics)
        pipeline.open()
        pipeline.start()
        time.sleep(_WARM_S)
        frames, began_s, network_s, decoder_s = metrics.camera("bench").published, _threads_s(), network.seconds, decoder.seconds
        process_s, wall_s = time.process_time(), time.perf_counter()
        time.sleep(float(line))
        frames = metrics.camera("bench").published - frames
        busy_s, network_s, decoder_s = _threads_s() - began_s, network.seconds - network_s, decoder.seconds - decoder_s
        result = {
            "frames": frames,
            "outside_ms": (busy_s - network_s - decoder_s) / frames * 1e3,
            "decoder_ms": decoder_s / frames * 1e3,
            "process_ms": (time.process_time() - process_s) / frames * 1e3,
            "fps": frames / (time.perf_counter() - wall_s),
        }
        pipeline.stop(3)
        print(json.dumps(result), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("old", type=Path)
    parser.add_argument("old_model", type=Path)
    parser.add_argument("--model", default="ghost-n")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    children = {}
    for name, root, model in (("old", options.old, options.old_model), ("now", _ROOT, options.model)):
        command = [sys.executable, __file__, "--child", name, str(options.video.resolve()), str(model)]
        environment = {**os.environ, "PYTHONPATH": str(root.resolve())}
        children[name] = subprocess.Popen(command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in children}
    try:
        for _ in range(options.rounds):
            for name in random.sample(sorted(children), 2):
                stdin, stdout = children[name].stdin, children[name].stdout
                assert stdin is not None
                assert stdout is not None
                stdin.write(f"{options.seconds}\n")
                stdin.flush()
                results[name].append(json.loads(stdout.readline()))
    finally:
        for child in children.values():
            child.terminate()
            child.wait(10)
    for name, rounds in results.items():
        print(name, {key: round(statistics.median(each[key] for each in rounds), 3) for key in rounds[0]})
    ratios = [now["outside_ms"] / old["outside_ms"] for now, old in zip(results["now"], results["old"], strict=True)]
    shown = " ".join(f"{ratio:.3f}" for ratio in ratios)
    print(f"core time outside the engine, now / old: {statistics.median(ratios):.3f} (rounds: {shown})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:5])
    else:
        main()
