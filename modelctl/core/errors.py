"""Everything modelctl can fail with. Imports nothing from modelctl.

    ModelctlError            code               exit
     ├ UsageProblem          usage               2   a wrong flag, reference, scheme or layout
     ├ NotFound              not-found           3   a file, blob, tag or directory
     ├ ChecksumMismatch      checksum-mismatch   4   a CRC, chunk or file that is not what was stated
     │   └ DigestMismatch    digest-mismatch     4   bytes that do not have the digest they are named by
     ├ Unavailable           unavailable         5   no answer, or one that says: not now; worth another try
     │   └ BadAnswer         bad-answer          5   an answer that breaks the protocol; not worth one
     ├ Denied                denied              7   no permission: of the file system, or of a registry
     ├ Invalid               invalid            11   a model or an artifact that breaks its format
     ├ Conflict              conflict           12   a target, store or tag that somebody else holds or filled
     ├ DiskProblem           disk               13   the operating system refused a read or a write
     ├ Partial               partial             9   done in part: not every region, destination, node or byte
     └ TimedOut              timed-out          10   not done within the time that was given

^C ends with 130, SIGTERM with 143, anything that is not in this tree with 1. 6 and 8 are kept for
copies and for peers; 14 is `diff --exit-code`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ModelctlError(Exception):
    """An error a user can act on.

    `code` is kebab-case and stable: scripts and runbooks key on it.
    `what` names the object, `why` states the fact observed beside what was expected, `hint` is what to do next.
    """

    code = "error"
    exit_status = 1

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.hint = what, why, hint

    @property
    def seen(self) -> str:
        """What and why, in a line."""
        return f"{self.what}: {self.why}" if self.why else self.what

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.what}"]
        lines += [f"  why: {self.why}"] if self.why else []
        lines += [f"  try: {self.hint}"] if self.hint else []
        return "\n".join(lines)


class UsageProblem(ModelctlError):
    code, exit_status = "usage", 2


class NotFound(ModelctlError):
    code, exit_status = "not-found", 3


class ChecksumMismatch(ModelctlError):
    code, exit_status = "checksum-mismatch", 4


class DigestMismatch(ChecksumMismatch):
    code = "digest-mismatch"


class Unavailable(ModelctlError):
    """`retry_after` is how long the other side asked to be left alone [s], None when it did not."""

    code, exit_status = "unavailable", 5
    retryable = True

    def __init__(self, what: str, *, why: str = "", hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(what, why=why, hint=hint)
        self.retry_after = retry_after


class BadAnswer(Unavailable):
    code, retryable = "bad-answer", False


class Denied(ModelctlError):
    code, exit_status = "denied", 7


class Invalid(ModelctlError):
    code, exit_status = "invalid", 11


class Conflict(ModelctlError):
    code, exit_status = "conflict", 12


class DiskProblem(ModelctlError):
    code, exit_status = "disk", 13


class Partial(ModelctlError):
    code, exit_status = "partial", 9


class TimedOut(ModelctlError):
    code, exit_status = "timed-out", 10


@contextmanager
def failing(side: str) -> Iterator[None]:
    """Say of an error on which `side` of a copy it happened, "source" or "destination", unless it says so already."""
    try:
        yield
    except ModelctlError as error:
        if not error.what.startswith(("source: ", "destination: ")):
            error.what = f"{side}: {error.what}"
        raise
