"""One artifact into the registries of several regions, over links whose rates are shaped.

The origin and each region are distribution 3.1 on tmpfs in a network namespace of its own; bytes are those that the
links count, so headers and retransmissions are among them. The rates are such that the links, and not the two cores,
decide how long it takes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from e2e.bench.links import Link, far_registry
from e2e.bench.measure import MODELCTL, RUNS
from e2e.bench.model import make_model
from e2e.bench.registries import CRANE, GO
from tests.fakes.registries import Registry

NAMES = ("a", "b", "c")
LINK_MBIT = 800
SLOW_MBIT = LINK_MBIT // 10
KILLS = int(os.environ.get("BENCH_KILLS", "20"))
MANY = 16
SMALL_MIB = 64


class Pushed(NamedTuple):
    """What a push to regions said of itself, and what it took: memory at most [bytes], wall time [s]."""

    report: dict[str, Any]
    rss: int
    wall: float

    @property
    def seconds(self) -> dict[str, float]:
        return {row["region"]: row["seconds"] for row in self.report["regions"]}


@dataclass(frozen=True)
class Regions:
    """An origin and regions, each behind its link."""

    room: Path
    origin: Registry
    origin_link: Link
    regions: Mapping[str, tuple[Registry, Link]]

    def shape(self, origin: int = 0, **regions: int) -> None:
        """Set the rates of the links [Mbit/s]; those that are not named are as fast as the machine."""
        self.origin_link.shape(origin)
        for name, (_, found) in self.regions.items():
            found.shape(regions.get(name, 0))

    def empty(self) -> None:
        for server, _ in self.regions.values():
            server.empty()

    def sent(self) -> int:
        """Return what went to all regions so far [bytes]."""
        return sum(found.sent() for _, found in self.regions.values())

    def command(self, reference: str, *names: str) -> list[str]:
        source = f"{self.origin.host}/{reference}"
        return [MODELCTL, "push", source, "--regions", ",".join(names), "--plain-http", "-q", "-o", "json"]

    def push(self, reference: str, *names: str) -> Pushed:
        """Push, to the end."""
        return self._run(self.command(reference, *names))

    def pack(self, model: Path, to: str, *names: str) -> Pushed:
        """Pack a folder, to the end, without what a pack before it learned."""
        options = ["--to", to, "--regions", ",".join(names), "--no-cache", "--plain-http", "-q", "-o", "json"]
        return self._run([MODELCTL, "pack", str(model), *options])

    @staticmethod
    def _run(command: Sequence[str]) -> Pushed:
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            said = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"bench: {process.args} ended with {process.returncode}")
        return Pushed(json.loads(said), usage.ru_maxrss * 1024, time.monotonic() - began)

    def check(self, name: str, tag: str) -> None:
        """Raise when a region has a tag of something that is not complete."""
        server, _ = self.regions[name]
        reference = f"{server.host}/{tag}"
        if subprocess.run([CRANE, "digest", "--insecure", reference], capture_output=True, check=False).returncode:
            return
        verify = [MODELCTL, "verify", reference, "--plain-http", "--depth", "full", "-q"]
        subprocess.run(verify, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def far_regions(room: Path, models: Mapping[str, Path]) -> Iterator[Regions]:
    """Run an origin that has some models, and regions that have nothing."""
    program = (str(GO / "registry"), "serve")
    with ExitStack() as stack:
        origin, origin_link = stack.enter_context(far_registry(room / "origin", program))
        regions = {name: stack.enter_context(far_registry(room / f"region-{name}", program)) for name in NAMES}
        tables = [f'[regions.{name}]\nregistry = "{server.host}"\n' for name, (server, _) in regions.items()]
        spare, _ = regions[NAMES[0]]
        tables += [
            f'[regions.many{number}]\nregistry = "{spare.host}"\nnamespace = "n{number}"\n' for number in range(MANY)
        ]
        settings = room / "regions.toml"
        settings.write_text("\n".join(tables))
        os.environ["MODELCTL_CONFIG"] = str(settings)
        for reference, model in models.items():
            to = f"{origin.host}/{reference}"
            pack = [MODELCTL, "pack", str(model), to, "--plain-http", "-q", "--no-provenance"]
            subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
        yield Regions(room, origin, origin_link, regions)


def bench_regions(room: Path, model: Path, volume: int) -> dict[str, Any]:
    small = room / "small-model"
    make_model(small, mib=SMALL_MIB)
    with far_regions(room / "far", {"model:v1": model, "small:v1": small}) as far:
        figures = {
            "origin": _behind_a_thin_origin(far, volume),
            "alone": _as_if_alone(far),
            "slow": _beside_a_slow_one(far, "push", lambda *names: far.push("model:v1", *names)),
            "pack slow": _beside_a_slow_one(far, "pack", lambda *names: far.pack(model, "model:v1", *names)),
            "killed": _killed(far, volume),
            "memory": _memory(far),
        }
    shutil.rmtree(room / "far")
    return figures


def _behind_a_thin_origin(far: Regions, volume: int) -> dict[str, float]:
    far.shape(origin=LINK_MBIT)
    ratios, reads, walls = [], [], []
    for _ in range(RUNS):
        far.empty()
        before = far.origin_link.received()
        ours = far.push("model:v1", *NAMES)
        reads.append((far.origin_link.received() - before) / volume)
        far.empty()
        walls.append(ours.wall)
        ratios.append(_cranes(far) / ours.wall)
    return _say(
        f"3 regions behind an origin of {LINK_MBIT} Mbit/s",
        {
            "wall_s": statistics.median(walls),
            "three crane copy side by side, wall to ours": statistics.median(ratios),
            "bytes from the origin to the artifact's, at most": max(reads),
        },
    )


def _cranes(far: Regions) -> float:
    """Copy to each region by a crane of its own, all at once; return how long that takes [s]."""
    began = time.monotonic()
    copies = [
        [CRANE, "copy", "--insecure", f"{far.origin.host}/model:v1", f"{server.host}/crane:v1"]
        for server, _ in far.regions.values()
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda copy: subprocess.run(copy, check=True, capture_output=True), copies))
    return time.monotonic() - began


def _as_if_alone(far: Regions) -> dict[str, float]:
    far.shape(**dict.fromkeys(NAMES, LINK_MBIT))
    ratios = []
    for _ in range(RUNS):
        far.empty()
        alone = far.push("model:v1", NAMES[0]).seconds[NAMES[0]]
        far.empty()
        ratios.append(max(far.push("model:v1", *NAMES).seconds.values()) / alone)
    return _say(f"3 regions of {LINK_MBIT} Mbit/s", {"slowest region to one alone": statistics.median(ratios)})


def _beside_a_slow_one(far: Regions, verb: str, send: Callable[..., Pushed]) -> dict[str, float]:
    """Send to a slow one too, which is slow for twice as long as the others should take."""
    *fast, slow = NAMES
    slow_link = far.regions[slow][1]
    ratios = []
    for _ in range(RUNS):
        far.shape(**dict.fromkeys(fast, LINK_MBIT), **{slow: SLOW_MBIT})
        far.empty()
        alone = send(fast[0]).seconds[fast[0]]
        far.empty()
        relief = threading.Timer(2 * alone, slow_link.shape, [0])
        relief.start()
        seconds = send(*NAMES).seconds
        relief.join()
        ratios.append(max(seconds[name] for name in fast) / alone)
    return _say(f"{verb} beside a region at a tenth", {"slower of the others to one alone": statistics.median(ratios)})


def _killed(far: Regions, volume: int) -> dict[str, float]:
    """Kill a push at a random moment, and push again: what went to the regions in all."""
    far.shape(**dict.fromkeys(NAMES, LINK_MBIT))
    far.empty()
    whole = far.push("model:v1", *NAMES).wall
    ratios, moments = [], random.Random(8)
    for _ in range(KILLS):
        far.empty()
        before = far.sent()
        with subprocess.Popen(far.command("model:v1", *NAMES), stdout=subprocess.DEVNULL) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.2, whole))
            process.kill()
        for name in NAMES:
            far.check(name, "model:v1")
        far.push("model:v1", *NAMES)
        ratios.append((far.sent() - before) / (len(NAMES) * volume))
    return _say(f"{KILLS} single kills", {"bytes sent to the artifact's, at most": max(ratios)})


def _memory(far: Regions) -> dict[str, float]:
    far.shape()
    far.empty()
    one = far.push("small:v1", "many0").rss
    far.empty()
    many = far.push("small:v1", *(f"many{number}" for number in range(MANY))).rss
    return _say(f"memory at {MANY} regions", {"MiB at one": one / 2**20, "MiB more": (many - one) / 2**20})


def _say(title: str, figures: dict[str, float]) -> dict[str, float]:
    print(title)
    for name, value in figures.items():
        print(f"  {name}: {value:.3f}")
    print()
    return figures
