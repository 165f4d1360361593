"""Threads that are the first to decode a type live on."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
import msgspec
from modelctl.core.learned import learned

sys.setswitchinterval(1e-6)

def decode(barrier, type_):
    barrier.wait()
    msgspec.json.decode(b'{"inner": {"number": 1}, "list": [{"number": 2}]}', type=learned(type_))

for number in range(100):
    inner = msgspec.defstruct("Inner", [("number", int)])
    type_ = msgspec.defstruct("Outer", [("inner", inner), ("list", list[inner])])
    barrier = threading.Barrier(8)
    threads = [threading.Thread(target=decode, args=(barrier, type_)) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
"""


def test_threads_that_decode_a_new_type_together_live_on() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
