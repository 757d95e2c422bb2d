"""Freed pictures leave the process."""

import subprocess
import sys

PROGRAM = """
import threading, queue
import numpy as np
from edgepose.supervision.malloc import tune

def resident_kib():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])

assert tune()
pictures = queue.Queue()

def take():
    for number in range(200):
        pictures.put(np.full((576, 768, 3), number % 255, np.uint8))

before = resident_kib()
threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
full = resident_kib()
while not pictures.empty(): pictures.get()
print(full - before, resident_kib() - before)
"""


def test_pictures_made_by_threads_leave_nothing_behind() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    held, left = (int(value) for value in done.stdout.split())
    assert held > 800 * 1296  # all of them were there
    assert left < 4096
