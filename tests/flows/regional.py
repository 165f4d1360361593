"""Regions as the tests have them: their settings, three that ask differently who is there, and one that fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from modelctl.core.config import load_config
from modelctl.core.errors import ModelctlError, NotFound
from modelctl.flows.region_report import RegionReport, RegionsReport, Watcher
from modelctl.flows.regions import place
from modelctl.flows.stores import open_store
from tests.fakes.fault_proxy import Fault, Proxy, fault_proxy
from tests.fakes.registries import Registry
from tests.registries import IMPATIENT

THREE = ("open", "password", "token")


class Settings:
    """The file of settings, a region at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("")

    def add(self, name: str, host: str, *lines: str, namespace: str = "") -> None:
        table = [f"[regions.{name}]", f'registry = "{host}"', *lines]
        table += [f'namespace = "{namespace}"'] if namespace else []
        with self._path.open("a") as file:
            file.write("\n".join(table) + "\n")


class Guarded(NamedTuple):
    """Registries that ask who is there: with a password over TLS, and by way of a token realm."""

    password: Registry
    token: Registry
    realm: str


class Notes(Watcher):
    """Keeps the states of regions as they come, and sets `waited_for` once all of `names` are through."""

    def __init__(self, *names: str) -> None:
        self.states: list[tuple[str, str]] = []
        self.waited_for = threading.Event()
        self._names = set(names)

    def changed(self, region: RegionReport) -> None:
        self.states.append((region.region, region.state))
        if self._names <= {name for name, state in self.states if state == "Pushed"}:
            self.waited_for.set()


def states(found: tuple[RegionsReport, dict[str, ModelctlError]]) -> dict[str, str]:
    return {one.region: one.state for one in found[0].regions}


def digests(to: str, names: Sequence[str]) -> list[str]:
    """Return what the tag points to in each region, or nothing."""
    found = []
    for name in names:
        reference, access = place(to, name, load_config(), IMPATIENT)
        try:
            found.append(open_store(reference, access).resolve(reference.name).digest)
        except NotFound:
            found.append("")
    return found


def failing(stack: ExitStack, settings: Settings, plain: Registry, *faults: Fault) -> Proxy:
    """Add a region `bad` whose registry has faults."""
    proxy = stack.enter_context(fault_proxy(plain.host, *faults))
    settings.add("bad", proxy.host, namespace="bad")
    return proxy
