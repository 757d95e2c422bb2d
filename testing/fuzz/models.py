"""Fuzzing of model files: each damaged file is refused in a sentence, or runs.

`python -m testing.fuzz.models` is the worker of `testing.fuzz.pool`.
"""

import random
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

import edgepose
from edgepose.config import schema
from edgepose.engine.backend import open_backend, open_refiner_backend
from edgepose.errors import EdgeposeError
from edgepose.model.file import read_model
from testing.fuzz.pool import answer, hammer
from testing.fuzz.tally import Tally
from testing.onnx_files import write_edgepose, write_refiner, write_ultralytics

_PATIENCE_S = 60.0
_MEMORY_BYTES = 6 << 30  # a size that a flipped bit made of another must not take the machine along
_ASSETS = Path(edgepose.__file__).parent / "assets"


def fuzz(count: int, workers: int, told: Callable[[], None] = lambda: None) -> Tally:
    """Load that many files, and run once each that loads."""
    return hammer("testing.fuzz.models", [], count, workers=workers, patience_s=_PATIENCE_S, told=told)


class _Original:
    """A good file and its structure, which is all except the weights."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        weights: list[tuple[int, int]] = []
        for tensor in onnx.load(path).graph.initializer:
            if len(tensor.raw_data) > 16 and (at := self.data.find(tensor.raw_data)) >= 0:
                weights.append((at, at + len(tensor.raw_data)))
        weights.sort()
        self.structure: list[tuple[int, int]] = []
        end = 0
        for start, stop in weights:
            if start > end:
                self.structure.append((end, start))
            end = max(end, stop)
        self.structure.append((end, len(self.data)))

    def damaged(self, draw: random.Random) -> bytes:
        """Return a changed copy; nine of ten changes are outside of the weights."""
        data = bytearray(self.data)
        for _ in range(draw.choice((1, 1, 1, 2, 5, 30))):
            if draw.random() < 0.9:
                start, stop = draw.choice(self.structure)
                at = draw.randrange(start, max(start + 1, stop))
            else:
                at = draw.randrange(len(data))
            at = min(at, len(data) - 1)
            kind = draw.randrange(6)
            if kind == 0:
                data[at] ^= 1 << draw.randrange(8)
            elif kind == 1:
                data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif kind == 2:
                data[at : at + draw.randrange(1, 16)] = draw.randbytes(draw.randrange(1, 16))
            elif kind == 3:
                del data[at : at + draw.choice((1, 2, 10, 1000))]
            elif kind == 4:
                data[at:at] = data[at : at + draw.choice((1, 10, 300))]
            elif draw.random() < 0.2:
                del data[at:]
            if not data:
                break
        return bytes(data)


def main() -> None:
    """Answer each number with the outcome of the file that it damages."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="edgepose-fuzz-", dir="/dev/shm") as folder:
        path = Path(folder) / "model.onnx"
        originals = [_Original(write_edgepose(path)), _Original(write_refiner(path)), _Original(write_ultralytics(path))]
        originals += [_Original(_ASSETS / name) for name in ("ghost-n.onnx", "refine-n.onnx")]

        def one(number: int) -> tuple[str, str]:
            draw = random.Random(number)
            path.write_bytes(draw.choice(originals).damaged(draw))
            settings = schema.ModelConfig(path=str(path), backend="cpu", threads=1)
            try:
                model = read_model(path)
                if model.info.task == "pose":
                    side = model.info.long_side()
                    picture = np.full((1, model.info.input_height or side, model.info.input_width or side, 3), 114, np.uint8)
                    open_backend(model, settings).run(picture)
                else:
                    open_refiner_backend(model, settings).run(np.full((1, *model.info.crop_shape, 3), 114, np.uint8))
            except EdgeposeError as error:
                good = bool(str(error).strip()) and "\n" not in str(error) and "Traceback" not in str(error)
                return ("refused", type(error).__name__) if good else ("wrong", f"not a sentence: {str(error)[:300]!r}")
            except Exception as error:
                return "wrong", f"{type(error).__name__}: {str(error)[:300]}"
            return "accepted", ""

        answer(one)


if __name__ == "__main__":
    main()
