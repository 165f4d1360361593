"""A modelctl that is killed or interrupted: the same command ends what it had begun."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from e2e.command import Ended
from e2e.kubernetes.model import Told, on
from e2e.kubernetes.namespace import new_namespace
from e2e.kubernetes.node import models
from e2e.preload_faults.model import Model
from e2e.preload_faults.pull_secret import PullSecret
from e2e.preload_faults.trouble import wait_until
from tests.fakes.kube_api import Fault
from tests.fakes.kube_proxy import HungUp, kube_proxy

AT_ONCE = 4
PRELOAD = (1, *range(5, 11))
"""Which requests: it makes 8 in image mode and 9 in host mode, more when it has to wait; at first it only reads."""

UNLOAD = (1, *range(3, 15))


class Swept(NamedTuple):
    """What the same command did after one that was killed at a request, and what was left then."""

    status: int
    states: dict[str, str]
    labels: set[str]
    jobs: int


def kill_at(number: int, model: Model, verb: str, *flags: str) -> None:
    """Run preload or unload, and kill it before its request of a number has left."""
    numbers = itertools.count(1)

    def strike(request: str) -> None:
        if next(numbers) == number:
            command.kill()
            raise HungUp

    with kube_proxy(before=strike) as proxy:
        with model.running(verb, *flags, "--kubeconfig", proxy.kubeconfig) as command:
            command.ended()


def sweep(new_model: Callable[..., Model], *flags: str) -> dict[int, Swept]:
    """Kill a preload at its requests, each time of another model, and give the command again."""

    def killed(number: int) -> Swept:
        model = new_model()
        kill_at(number, model, "preload", *flags)
        again = model.preload(*flags)
        return Swept(again.status, again.states, model.labels("n1"), len(model.jobs()))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(PRELOAD, pool.map(killed, PRELOAD), strict=True))


@pytest.fixture(scope="module")
def in_image_mode(
    new_model: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[int, Swept]]:
    with new_namespace(tmp_path_factory.mktemp("objects"), "a") as (namespace,):
        yield sweep(new_model, *on("n1"), "-n", namespace.name)


@pytest.fixture(scope="module")
def in_host_mode(host_namespace: str, new_model: Callable[..., Model]) -> dict[int, Swept]:
    return sweep(new_model, *on("n1"), "--mode", "host")


class TestKilledAtAnyRequest:
    def test_in_image_mode_the_same_command_ends_well(self, in_image_mode: dict[int, Swept]) -> None:
        expected = (0, {"n1": "Warm"}, {"warm"})
        assert {number: found[:3] for number, found in in_image_mode.items()} == dict.fromkeys(in_image_mode, expected)

    def test_in_host_mode_the_same_command_ends_well(self, in_host_mode: dict[int, Swept]) -> None:
        expected = (0, {"n1": "Warm"}, {"disk", "warm"})
        assert {number: found[:3] for number, found in in_host_mode.items()} == dict.fromkeys(in_host_mode, expected)

    def test_and_leaves_no_job(self, in_image_mode: dict[int, Swept], in_host_mode: dict[int, Swept]) -> None:
        found = [*in_image_mode.values(), *in_host_mode.values()]
        assert [one.jobs for one in found] == [0] * len(found)


class Unloaded(NamedTuple):
    """What the same `unload` did after one that was killed at a request, and what was left then."""

    status: int
    labels: set[str]
    jobs: int
    is_on_disk: bool


@pytest.fixture(scope="module")
def unloaded(host_namespace: str, new_model: Callable[..., Model]) -> dict[int, Unloaded]:
    def killed(number: int) -> Unloaded:
        model = new_model()
        model.preload(*on("n1"), "--mode", "host")
        kill_at(number, model, "unload", *on("n1"))
        again = model.unload(*on("n1"))
        return Unloaded(again.status, model.labels("n1"), len(model.jobs()), model.digest in models("n1"))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(UNLOAD, pool.map(killed, UNLOAD), strict=True))


class TestUnloadKilledAtAnyRequest:
    def test_the_same_command_ends_well_and_leaves_no_label(self, unloaded: dict[int, Unloaded]) -> None:
        assert {number: found[:2] for number, found in unloaded.items()} == dict.fromkeys(unloaded, (0, set()))

    def test_and_no_files(self, unloaded: dict[int, Unloaded]) -> None:
        assert [number for number, found in unloaded.items() if found.is_on_disk] == []

    def test_and_no_job(self, unloaded: dict[int, Unloaded]) -> None:
        assert [number for number, found in unloaded.items() if found.jobs] == []


@dataclass(frozen=True)
class Interrupted:
    """A preload that ^C ended while its pod waited for a secret; what was left; and the same command again.

    `goes_on` says how many pods of the Job were active, `labels` what the node was called when the pod had ended.
    """

    found: Ended
    goes_on: int
    labels: set[str]
    again: Told
    at_last: set[str]
    jobs: int


@pytest.fixture(scope="module")
def interrupted(
    new_private: Callable[[], Model], private_registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Interrupted]:
    model = new_private()
    with new_namespace(tmp_path_factory.mktemp("objects"), "a") as (namespace,):
        flags = (*on("n1"), "-n", namespace.name, "--pull-secret", "hub")
        with model.preloading(*flags) as preload:
            preload.until("n1  Pulling .*hub")
            preload.interrupt()
            found = preload.ended()
        (job,) = model.jobs()
        PullSecret(namespace.name, "hub", private_registry).make()
        namespace.wait_for("condition=Complete", f"job/{job['metadata']['name']}")
        labels = model.labels("n1")
        again = model.preload(*flags)
        yield Interrupted(found, job["status"]["active"], labels, again, model.labels("n1"), len(model.jobs()))


class TestInterrupted:
    def test_the_status_is_130_and_it_says_how_it_leaves_the_cluster(self, interrupted: Interrupted) -> None:
        assert interrupted.found.status == 130
        assert "as it is now: 1 Pulling; 1 Job goes on without this command\n" in interrupted.found.stderr
        assert interrupted.found.stderr.endswith("what is done stays done; the same command goes on\n")

    def test_and_that_is_true(self, interrupted: Interrupted) -> None:
        assert interrupted.goes_on == 1
        assert interrupted.labels == set()

    def test_the_same_command_labels_the_node_and_leaves_nothing(self, interrupted: Interrupted) -> None:
        assert (interrupted.again.status, interrupted.again.states) == (0, {"n1": "Warm"}), interrupted.again.words
        assert (interrupted.at_last, interrupted.jobs) == ({"warm"}, 0)


@pytest.fixture(scope="module")
def refused(new_model: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ended, int]]:
    """A preload that ^C ended while the API server was too busy to take its Job, and how many Jobs there are then."""
    model = new_model()
    busy = Fault("PATCH /apis/batch", status=429, headers={"Retry-After": "4"}, times=2)
    with new_namespace(tmp_path_factory.mktemp("objects"), "a") as (namespace,):
        with kube_proxy(busy) as proxy:
            with model.preloading(*on("n1"), "-n", namespace.name, "--kubeconfig", proxy.kubeconfig) as preload:
                preload.until("1 Fit")
                wait_until("a request for a Job", lambda: any("PATCH /apis/batch" in one for one in proxy.requests))
                preload.interrupt()
                found = preload.ended()
        yield found, len(model.jobs())


class TestInterruptedBeforeAnythingWasCreated:
    def test_the_status_is_130(self, refused: tuple[Ended, int]) -> None:
        assert refused[0].status == 130

    def test_no_job_is_created_any_more(self, refused: tuple[Ended, int]) -> None:
        assert refused[1] == 0

    def test_and_it_says_that_none_goes_on(self, refused: tuple[Ended, int]) -> None:
        assert "; 0 Jobs go on without this command\n" in refused[0].stderr
