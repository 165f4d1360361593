import hashlib

from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.sha256 import STATE_SIZE, Sha256


@given(parts=st.lists(st.binary(max_size=200), max_size=8))
def test_the_digest_is_that_of_hashlib(parts: list[bytes]) -> None:
    ours = Sha256()
    for part in parts:
        ours.update(memoryview(bytearray(part)))
    assert ours.digest() == "sha256:" + hashlib.sha256(b"".join(parts)).hexdigest()


@given(before=st.binary(max_size=300), after=st.binary(max_size=300))
def test_a_saved_state_is_gone_on_with(before: bytes, after: bytes) -> None:
    first = Sha256()
    first.update(before)
    second = Sha256(first.save())
    second.update(after)
    assert second.digest() == "sha256:" + hashlib.sha256(before + after).hexdigest()


def test_a_saved_state_has_the_size_of_libcryptos() -> None:
    assert len(Sha256().save()) == STATE_SIZE


def test_asking_for_the_digest_ends_nothing() -> None:
    hasher = Sha256()
    hasher.update(b"a")
    hasher.digest()
    hasher.update(b"b")
    assert hasher.digest() == "sha256:" + hashlib.sha256(b"ab").hexdigest()
