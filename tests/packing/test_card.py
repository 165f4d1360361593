"""What a README.md says of a model."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.media_types import LICENSES, TITLE
from modelctl.packing.card import MAX_FRONT_MATTER_SIZE, Card, parse_card

QWEN = b"""\
---
library_name: transformers
license: apache-2.0
license_link: https://huggingface.co/Qwen/Qwen3-8B/blob/main/LICENSE
pipeline_tag: text-generation
base_model:
- Qwen/Qwen3-8B-Base
---

# Qwen3-8B
"""


def card(front_matter: str) -> Card:
    return parse_card(b"---\n" + front_matter.encode("utf-8", "surrogatepass") + b"\n---\n\n# A model\n")


def licenses(front_matter: str) -> str | None:
    return card(front_matter).annotations.get(LICENSES)


def test_a_real_card_is_read() -> None:
    assert parse_card(QWEN) == Card({LICENSES: "Apache-2.0"})


@pytest.mark.parametrize(
    ("front_matter", "expected"),
    [
        ("license: apache-2.0", "Apache-2.0"),
        ("license: mit", "MIT"),
        ("license: MIT License", "MIT"),
        ("license: Apache License 2.0", "Apache-2.0"),
        ("license: 'Apache License Version 2.0'", "Apache-2.0"),
        ("license: odbl", "ODbL-1.0"),
        ("license: llama3.1", "LicenseRef-llama3.1"),
        ("license: other\nlicense_name: tongyi-qianwen\nlicense_link: LICENSE", "LicenseRef-tongyi-qianwen"),
        ("license: other\nlicense_name: My Licence (2.0)", "LicenseRef-My-Licence-2.0"),
        ("license: [mit, apache-2.0]", "MIT AND Apache-2.0"),
        ("license:\n- mit\n- mit", "MIT"),
        ("license: other", None),
        ("license: unknown", None),
        ("license: null", None),
        ("license: ~", None),
        ("license:", None),
        ("license: {a: b}", None),
        ("license: [[mit]]", None),
        ("license: 模型", None),
        ("license: " + "x" * 1000, None),
        ("tags: [a]", None),
        ("license: no", "LicenseRef-no"),
        ("license: 1.0", "LicenseRef-1.0"),
        ('license: "null"', "LicenseRef-null"),
    ],
)
def test_a_licence_is_told_by_its_spdx_name(front_matter: str, expected: str | None) -> None:
    assert licenses(front_matter) == expected


@pytest.mark.parametrize(
    ("front_matter", "expected"),
    [
        ("model_name: Qwen3 8B", "Qwen3 8B"),
        ("model-index:\n- name: bge-m3\n  results:\n  - task: {type: Retrieval}", "bge-m3"),
        ("model_name: one\nmodel-index: [{name: other}]", "one"),
        ("model_name: 模型", "模型"),
        ("model-index: []", None),
        ("model-index: [a]", None),
        ("model-index: {name: a}", None),
        ("model_name: [a]", None),
        ('model_name: "a\\u0000b"', None),
        ('model_name: "a\\ud800b"', None),
        ('model_name: "a\\nb"', None),
    ],
)
def test_a_name_is_told(front_matter: str, expected: str | None) -> None:
    assert card(front_matter).annotations.get(TITLE) == expected


@pytest.mark.parametrize(
    "raw", [b"", b"# A model\n", b"---\n", b"---\nlicense: mit\n", b"text\n---\nlicense: mit\n---\n", b"---\n\n---\n"]
)
def test_a_card_without_front_matter_says_nothing(raw: bytes) -> None:
    assert parse_card(raw) == Card({})


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"\n\n", b""])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_front_matter_is_found_as_hubs_find_it(start: bytes, end: bytes) -> None:
    assert parse_card(start + b"---" + end + b"license: mit" + end + b"---" + end) == Card({LICENSES: "MIT"})


@pytest.mark.parametrize(
    ("front_matter", "why"),
    [
        ("license: [", "expected the node content"),
        ("license: mit\n  bad: indent", "mapping values are not allowed"),
        ("license: mit\n%%%", "expected alphabetic"),
        ("- mit", "not a mapping"),
        ("mit", "not a mapping"),
        ("? [a]\n: b", "a key is not a string"),
        ("a: &a [mit]\nlicense: *a", r"an alias, \*a"),
        ("a: &a [*a]", r"an alias, \*a"),
        ("[" * 1000, "nested deeper than 32"),
        ("[" * 100_000, "nested deeper than 32"),
        ('a: "\\UFFFFFFFF"', "too large"),
        ('a: "\\U00110000"', "not in range"),
        ("a: \x00", "not allowed"),
        ("a: \ud800", "codec can't decode"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: b", ""),
        ("a: " + "x" * MAX_FRONT_MATTER_SIZE, f"at most {MAX_FRONT_MATTER_SIZE} are read"),
    ],
    ids=range(16),
)
def test_a_broken_card_says_why_and_nothing_else(front_matter: str, why: str) -> None:
    found = card(front_matter)

    assert found.annotations == {}
    assert re.match(f"README.md: its front matter cannot be read.*{why}", found.note)


def test_tags_of_yaml_construct_nothing() -> None:
    assert card("a: !!python/object/apply:os.system ['true']\nlicense: !!int mit").annotations == {LICENSES: "MIT"}


@given(data=st.binary(max_size=300))
def test_no_card_is_an_error(data: bytes) -> None:
    found = parse_card(b"---\n" + data + b"\n---\n")

    assert all(text.isprintable() and text.encode() for text in found.annotations.values())


@given(text=st.text(st.sampled_from("ab:-[]{}&*!|>'\"%@`#?~,\n \t\\uU0"), max_size=60))
def test_no_yaml_is_an_error(text: str) -> None:
    assert isinstance(card(text), Card)


@given(name=st.text(max_size=60))
def test_a_licence_is_always_an_spdx_expression(name: str) -> None:
    escaped = "".join(f"\\U{ord(char):08x}" for char in name)
    found = licenses(f'license: "{escaped}"')

    assert found is None or all(char.isascii() and (char.isalnum() or char in "-. ") for char in found)
