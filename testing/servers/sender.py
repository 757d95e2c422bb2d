"""A program that sends a moving test video as MPEG-TS, 320x240 at 15 frames a second.

python -m testing.servers.sender mpegts|rtp_mpegts URL
"""

import sys
import time

import av
import numpy as np

RATE = 15


def send(name: str, url: str) -> None:
    with av.open(url, "w", format=name) as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"tune": "zerolatency", "preset": "ultrafast", "g": str(RATE)}
        began_s = time.monotonic()
        for number in range(60 * RATE):
            image = np.full((240, 320, 3), 30, np.uint8)
            left = number * 4 % 280
            image[100:140, left : left + 40] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
            time.sleep(max(0.0, began_s + (number + 1) / RATE - time.monotonic()))


if __name__ == "__main__":
    try:
        send(sys.argv[1], sys.argv[2])
    except (av.FFmpegError, KeyboardInterrupt) as error:
        raise SystemExit(str(error)) from None
