import pytest

from modelctl.core.errors import (
    ChecksumMismatch,
    Conflict,
    Denied,
    DigestMismatch,
    DiskProblem,
    Invalid,
    ModelctlError,
    NotFound,
    UsageProblem,
)

STATUSES = [
    (UsageProblem, "usage", 2),
    (NotFound, "not-found", 3),
    (ChecksumMismatch, "checksum-mismatch", 4),
    (DigestMismatch, "digest-mismatch", 4),
    (Denied, "denied", 7),
    (Invalid, "invalid", 11),
    (Conflict, "conflict", 12),
    (DiskProblem, "disk", 13),
]


@pytest.mark.parametrize(("kind", "code", "status"), STATUSES)
def test_codes_and_statuses_stay_what_scripts_know(kind: type[ModelctlError], code: str, status: int) -> None:
    assert (kind.code, kind.exit_status) == (code, status)


def test_an_error_is_three_lines() -> None:
    assert str(NotFound("a", why="b", hint="c")) == "not-found: a\n  why: b\n  try: c"


def test_an_error_leaves_out_what_it_does_not_know() -> None:
    assert str(NotFound("a")) == "not-found: a"
