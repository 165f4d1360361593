"""A secret that does not open the registry, or is not there: it is named, and a right one lets the preload go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from e2e.command import Ended
from e2e.kubernetes.model import Told, on
from e2e.kubernetes.namespace import Namespace, new_namespace
from e2e.preload_faults.model import Model
from e2e.preload_faults.pull_secret import PullSecret


@pytest.fixture
def host_secret(host_namespace: str, private: Model, private_registry: str) -> Iterator[PullSecret]:
    found = PullSecret(host_namespace, f"hub-{private.short}", private_registry)
    yield found
    found.remove()


@dataclass(frozen=True)
class Wrong:
    """A preload in image mode with a secret that is wrong, and one after it was mended."""

    model: Model
    secret: PullSecret
    found: Ended
    left: set[str]
    again: Told


@pytest.fixture(scope="module")
def wrong(
    new_private: Callable[[], Model], private_registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Wrong]:
    model = new_private()
    with new_namespace(tmp_path_factory.mktemp("objects"), "a") as (namespace,):
        secret = PullSecret(namespace.name, "hub", private_registry)
        secret.make("wrong")
        flags = (*on("n1"), "-n", namespace.name, "--pull-secret", "hub")
        with model.preloading(*flags, "--timeout", "12s") as run:
            found = run.ended()
        left = model.labels("n1")
        secret.mend()
        yield Wrong(model, secret, found, left, model.preload(*flags))


class TestAWrongOneInImageMode:
    def test_it_is_named_while_the_pod_waits_for_its_image(self, wrong: Wrong) -> None:
        line = next(line for line in wrong.found.stderr.splitlines() if "401 Unauthorized" in line)
        assert "a  n1  Pulling" in line
        assert "what secret hub holds does not open the registry" in line
        assert f"kubectl -n {wrong.secret.namespace} create secret docker-registry hub" in line
        assert f"--docker-server={wrong.secret.registry}" in line

    def test_it_ends_by_its_time(self, wrong: Wrong) -> None:
        assert (wrong.found.status, wrong.left) == (10, set())

    def test_it_is_named_at_the_end_too(self, wrong: Wrong) -> None:
        assert "secret hub" in wrong.found.stderr.partition("timed-out: 1 node not warm")[2]

    def test_when_it_is_mended_the_same_command_goes_on(self, wrong: Wrong) -> None:
        assert (wrong.again.status, wrong.again.states) == (0, {"n1": "Warm"}), wrong.again.words
        assert (wrong.model.labels("n1"), wrong.model.jobs()) == ({"warm"}, [])


def test_in_image_mode_one_that_is_not_there_is_named_and_when_it_is_made_the_pod_goes_on(
    private: Model, namespace: Namespace, private_registry: str
) -> None:
    with private.preloading(*on("n1"), "-n", namespace.name, "--pull-secret", "hub") as run:
        line = run.until("is not in namespace")
        PullSecret(namespace.name, "hub", private_registry).make()
        found = run.ended()

    assert f"secret hub is not in namespace {namespace.name}: kubectl -n {namespace.name} create secret" in line
    assert (found.status, private.labels("n1"), private.jobs()) == (0, {"warm"}, []), found.stderr


def test_in_host_mode_a_wrong_one_fails_at_once_and_when_it_is_mended_the_same_command_goes_on(
    private: Model, host_secret: PullSecret
) -> None:
    flags = (*on("n1"), "--mode", "host", "--pull-secret", host_secret.name)
    host_secret.make("wrong")
    found = private.preload(*flags)
    (pod,) = private.pods()
    (pull,) = pod["status"]["initContainerStatuses"]
    left = private.labels("n1")

    host_secret.mend()
    again = private.preload(*flags)

    assert (found.status, found.states, left) == (9, {"n1": "Failed"}, set())
    assert pull["state"]["terminated"]["exitCode"] == 7
    assert "it refused the password" in found.words
    assert f"what secret {host_secret.name} holds does not open the registry" in found.words
    assert (again.status, again.states, private.labels("n1")) == (0, {"n1": "Warm"}, {"disk", "warm"}), again.words
    assert private.jobs() == []


def test_in_host_mode_one_that_is_not_there_is_named_and_when_it_is_made_the_pod_goes_on(
    private: Model, host_secret: PullSecret
) -> None:
    with private.preloading(*on("n1"), "--mode", "host", "--pull-secret", host_secret.name) as run:
        line = run.until("is not in namespace")
        host_secret.make()
        found = run.ended()

    assert f"secret {host_secret.name} is not in namespace {host_secret.namespace}" in line
    assert (found.status, private.labels("n1"), private.jobs()) == (0, {"disk", "warm"}, []), found.stderr
