"""Threads that are the first to decode a type live on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import modelctl

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


def test_every_struct_is_learned_before_it_is_decoded() -> None:
    calls = [
        line.strip()
        for path in Path(modelctl.__file__).parent.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"msgspec\.(convert|json\.decode|msgpack\.decode)\(", line)
    ]

    assert calls
    assert [line for line in calls if "learned(" not in line and "dict[str, str])" not in line] == []
