"""How a preload ends that cannot do all that was asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.kubernetes.model import Model, labelled, on
from e2e.kubernetes.namespace import Namespace, kubectl


@pytest.fixture(scope="module")
def model(new_model: Callable[[], Model]) -> Model:
    return new_model()


def test_9_where_one_node_of_two_takes_no_pods_and_the_other_is_warm(model: Model, namespace: Namespace) -> None:
    kubectl("cordon", "n2")
    told = model.preload(*on("n1", "n2"), "-n", namespace.name)
    kubectl("uncordon", "n2")

    assert (told.status, told.states) == (9, {"n1": "Warm", "n2": "Cordoned"})
    assert "kubectl uncordon n2" in told.words
    assert labelled(model.warm_label) == ["n1"]


def test_10_when_the_time_is_over_and_it_says_what_was_waited_for(
    model: Model, namespace: Namespace, registry: str
) -> None:
    told = model.preload(*on("n2"), "-n", namespace.name, "--timeout", "6s", "--image", f"{registry}/tools/none:1")

    assert (told.status, told.states) == (10, {"n2": "TimedOut"})
    assert "tools/none" in told.words.partition("timed-out: 1 node not warm")[2]


def test_3_where_no_node_matches(model: Model, namespace: Namespace) -> None:
    told = model.preload(*on("n9"), "-n", namespace.name)

    assert (told.status, told.states) == (3, {})


@pytest.mark.parametrize(
    "flags",
    [
        ("-l", "kubernetes.io/hostname in n1"),
        (*on("n1"), "-n", "default", "--mode", "host"),
        (*on("n1"), "--context", "c"),
        (*on("n1"), "--timeout", "soon"),
    ],
)
def test_2_where_the_command_line_is_wrong(model: Model, flags: tuple[str, ...]) -> None:
    assert model.preload(*flags).status == 2
