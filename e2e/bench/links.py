"""Registries in network namespaces of their own, each behind a link whose rate HTB shapes, both ways."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.command import run
from tests.fakes.registries import Registry, registry

_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Link:
    """A veth pair: its end here, its end in the namespace of the same name, and the address there."""

    name: str
    address: str

    @property
    def there(self) -> str:
        return f"{self.name}-in"

    @property
    def ends(self) -> tuple[tuple[tuple[str, ...], str], ...]:
        """How `tc` is called for each end, and the end's name."""
        return (("tc",), self.name), (("tc", "-netns", self.name), self.there)

    def shape(self, mbit: int) -> None:
        """Let so much pass each way, in Mbit a second; 0 is all that the machine can."""
        rate = ("htb", "rate", f"{mbit or 100_000}mbit", "burst", "256k")
        for tc, device in self.ends:
            run(*tc, "class", "replace", "dev", device, "parent", "1:", "classid", "1:1", *rate)

    def received(self) -> int:
        """Return what came from the other end so far [bytes], headers of packets and all."""
        return self._count("rx_bytes")

    def sent(self) -> int:
        """Return what went to the other end so far [bytes], headers of packets and all."""
        return self._count("tx_bytes")

    def _count(self, what: str) -> int:
        return int(Path(f"/sys/class/net/{self.name}/statistics/{what}").read_text())


@contextmanager
def link() -> Iterator[Link]:
    """Make a namespace and a link to it, not shaped."""
    number = next(_NUMBERS)
    made = Link(f"bench{number}", f"10.213.{number}.2")
    run("ip", "netns", "add", made.name)
    try:
        run("ip", "link", "add", made.name, "type", "veth", "peer", "name", made.there, "netns", made.name)
        run("ip", "addr", "add", f"10.213.{number}.1/30", "dev", made.name)
        run("ip", "link", "set", made.name, "up")
        inside = ("ip", "-netns", made.name)
        run(*inside, "addr", "add", f"{made.address}/30", "dev", made.there)
        run(*inside, "link", "set", made.there, "up")
        run(*inside, "link", "set", "lo", "up")
        for tc, device in made.ends:
            run(*tc, "qdisc", "add", "dev", device, "root", "handle", "1:", "htb", "default", "1")
        made.shape(0)
        yield made
    finally:
        run("ip", "netns", "delete", made.name)


@contextmanager
def far_registry(root: Path, program: tuple[str, ...]) -> Iterator[tuple[Registry, Link]]:
    """Run a plain registry behind a link of its own."""
    with link() as made:
        inside = ("ip", "netns", "exec", made.name, *program)
        with registry(root, program=inside, address=made.address) as server:
            yield server, made
