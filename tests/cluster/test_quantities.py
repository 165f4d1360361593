"""Amounts as Kubernetes writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.cluster.quantities import mib, parse_quantity, to_quantity


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("128974848", 128974848),
        ("65767736Ki", 65767736 << 10),
        ("1.5Gi", 3 << 29),
        ("129M", 129_000_000),
        ("129e6", 129_000_000),
        ("1E", 10**18),
        ("128974848000m", 128974848),
        ("1m", 1),
        (".5k", 500),
        (512, 512),
    ],
)
def test_a_quantity_is_read_as_the_api_server_reads_it(text: str | int, size: int) -> None:
    assert parse_quantity(text) == size


@pytest.mark.parametrize("text", ["", "Mi", "1 Gi", "1gi", "1K", "1e", "1e6Ki", "0x10", "1.2.3", "-", None])
def test_what_is_no_quantity_is_refused(text: str | None) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(text)


@given(st.integers(0, 1 << 62))
def test_what_is_written_is_enough_and_hardly_more(size: int) -> None:
    assert 0 <= parse_quantity(to_quantity(size)) - size < 1 << 20


def test_people_read_mebibytes() -> None:
    assert mib((61440 << 20) + 5) == "61440 MiB"
