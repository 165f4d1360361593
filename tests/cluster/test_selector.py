"""Which nodes are meant, and which taints are tolerated."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.cluster.labels import Object
from modelctl.cluster.selector import parse_selector, parse_toleration
from modelctl.core.errors import UsageProblem


@pytest.mark.parametrize(
    ("text", "expressions"),
    [
        ("a=b", [{"key": "a", "operator": "In", "values": ["b"]}]),
        ("a==b", [{"key": "a", "operator": "In", "values": ["b"]}]),
        ("a = b", [{"key": "a", "operator": "In", "values": ["b"]}]),
        ("a=", [{"key": "a", "operator": "In", "values": [""]}]),
        ("a!=b", [{"key": "a", "operator": "NotIn", "values": ["b"]}]),
        ("a in (x,y)", [{"key": "a", "operator": "In", "values": ["x", "y"]}]),
        ("a in(x)", [{"key": "a", "operator": "In", "values": ["x"]}]),
        ("a notin ( x , y )", [{"key": "a", "operator": "NotIn", "values": ["x", "y"]}]),
        ("a", [{"key": "a", "operator": "Exists"}]),
        ("!a", [{"key": "a", "operator": "DoesNotExist"}]),
        ("in=notin", [{"key": "in", "operator": "In", "values": ["notin"]}]),
        (
            "node.kubernetes.io/instance-type=p5, gpu in (h200,h100),!spot",
            [
                {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["p5"]},
                {"key": "gpu", "operator": "In", "values": ["h200", "h100"]},
                {"key": "spot", "operator": "DoesNotExist"},
            ],
        ),
    ],
)
def test_a_selector_is_read_as_kubectl_reads_it(text: str, expressions: list[Object]) -> None:
    assert parse_selector(text) == expressions


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "at character 1: ''"),
        ("a=b,", "at character 5: ''"),
        ("a=b,,c", "at character 5: ''"),
        ("a=b, c d", "at character 6: 'c d'"),
        ("a in (x", "at character 1: 'a in (x'"),
        ("a in x)", "at character 1: 'a in x)'"),
        ("a in ()", "expected KEY"),
        ("a=b=c", "expected KEY"),
        ("a>1", "'a>1' is no label's key"),
        ("-a=b", "'-a' is no label's key"),
        ("Example.com/a=b", "'Example.com/a' is no label's key"),
        ("x/y/z", "'x/y/z' is no label's key"),
        (f"{'a' * 64}", "is no label's key"),
        (f"{'a' * 254}/b", "is no label's key"),
        ("a=b,c=d*", "at character 5: 'd*' is no label's value"),
        (f"a={'v' * 64}", "is no label's value"),
        ("a in (x,y y)", "'y y' is no label's value"),
    ],
)
def test_what_is_no_selector_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        parse_selector(text)
    assert why in caught.value.why
    assert "--node-selector" in caught.value.what


NAMES = st.from_regex(r"[a-z]([-a-z0-9_.]{0,20}[a-z0-9])?", fullmatch=True)
VALUES = st.lists(NAMES, min_size=1, max_size=3)
EXPRESSIONS = st.one_of(
    st.builds(lambda key, operator: {"key": key, "operator": operator}, NAMES, st.sampled_from(["Exists"])),
    st.builds(lambda key, operator: {"key": key, "operator": operator}, NAMES, st.sampled_from(["DoesNotExist"])),
    st.builds(lambda key, values: {"key": key, "operator": "In", "values": values}, NAMES, VALUES),
    st.builds(lambda key, values: {"key": key, "operator": "NotIn", "values": values}, NAMES, VALUES),
)
WRITTEN = {
    "Exists": "{key}",
    "DoesNotExist": "!{key}",
    "In": "{key} in ({values})",
    "NotIn": "{key} notin ({values})",
}


def written(expression: Any) -> str:
    values = ", ".join(expression.get("values", []))
    return WRITTEN[expression["operator"]].format(key=expression["key"], values=values)


@given(st.lists(EXPRESSIONS, min_size=1, max_size=4))
def test_every_expression_can_be_written(expressions: list[Object]) -> None:
    assert parse_selector(",".join(map(written, expressions))) == expressions


@given(st.text("ab/-.,=!() in\n'\u00e9", max_size=30))
def test_any_text_is_a_selector_that_the_api_server_takes_or_is_refused(text: str) -> None:
    try:
        found = parse_selector(text)
    except UsageProblem:
        return
    label = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
    assert all(re.fullmatch(rf"([a-z0-9.-]+/)?{label}", one["key"]) for one in found)
    assert all(re.fullmatch(rf"({label})?", value) for one in found for value in one.get("values", []))


@pytest.mark.parametrize(
    ("text", "toleration"),
    [
        ("all", {"operator": "Exists"}),
        ("gpu", {"key": "gpu", "operator": "Exists"}),
        ("gpu:NoSchedule", {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}),
        ("gpu=yes", {"key": "gpu", "operator": "Equal", "value": "yes"}),
        (
            "nvidia.com/gpu=:NoExecute",
            {"key": "nvidia.com/gpu", "operator": "Equal", "value": "", "effect": "NoExecute"},
        ),
    ],
)
def test_a_toleration_is_read_as_taints_are_written(text: str, toleration: Object) -> None:
    assert parse_toleration(text) == toleration


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is no taint's key"),
        ("=yes", "'' is no taint's key"),
        ("gpu:noschedule", "'noschedule' is no effect"),
        ("gpu:", "'' is no effect"),
        ("gpu=y=z", "'y=z' is no taint's value"),
        ("a b", "'a b' is no taint's key"),
    ],
)
def test_what_is_no_toleration_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageProblem, match="--tolerations") as caught:
        parse_toleration(text)
    assert why in caught.value.why
