import pytest

from modelctl.core.rates import parse_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("2Gbit", 250e6),
        ("250MB", 250e6),
        ("250 MB/s", 250e6),
        ("1.5kbit/s", 187.5),
        ("100MiB", 100 * 2**20),
        ("8bit", 1),
        ("1B", 1),
    ],
)
def test_a_rate_is_in_bits_or_bytes(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "2", "2G", "0MB", "-1MB", "1e3MB", "2gbit", "2GBps", "MB"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="2Gbit"):
        parse_rate(text)
