"""What only the start needs leaves the process, which works on."""

import subprocess
import sys

PROGRAM = """
import cv2, numpy as np
from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import open_backend, pose_model
from edgepose.supervision.start_pages import release_start_pages
from edgepose.telemetry.sensors import MachineStats

network = open_backend(pose_model(ModelConfig()), ModelConfig())
image = np.random.default_rng(0).integers(0, 256, (1, 192, 320, 3), np.uint8)
before = network.run(image)
start_mb = MachineStats.read().memory_mb
released = release_start_pages()
after = network.run(image)
assert all(np.array_equal(getattr(before, name), getattr(after, name)) for name in ("boxes", "scores", "keypoints"))
cv2.resize(image[0], (100, 100))
print(released / 2**20, start_mb - MachineStats.read().memory_mb)
"""


def test_code_that_is_not_used_again_leaves_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    released_mb, less_mb = (float(value) for value in done.stdout.split())
    assert released_mb > 10
    assert less_mb > 5
