import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.chunks import BUFFER, CHUNK, ChunkHashes, ChunkProver, chunk_count, feed, pieces
from tests.fakes.memory import MemoryBlob
from tests.models import noise

PATTERN = noise(CHUNK // 8, "pattern") * 20
SIZES = [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5]


def chunks_of(data: bytes) -> bytes:
    hashes = ChunkHashes()
    feed(MemoryBlob(data), 0, len(data), [hashes.update], lambda size: None)
    return hashes.finish()


def reference_chunks(data: bytes) -> bytes:
    return b"".join(blake3(data[at : at + CHUNK]).digest() for at in range(0, len(data), CHUNK))


def proved_by(prover: ChunkProver, data: bytes, start: int = 0) -> list[bool]:
    return [prover.update(memoryview(data)[offset : offset + length]) for offset, length in pieces(len(data), start)]


@pytest.mark.parametrize("size", SIZES)
def test_chunk_hashes_are_blake3_of_each_8_mib(size: int) -> None:
    data = PATTERN[:size]
    assert chunks_of(data) == reference_chunks(data)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_has_one_hash_for_each_begun_chunk(size: int) -> None:
    assert chunk_count(size) * 32 == len(reference_chunks(PATTERN[:size]))


@pytest.mark.parametrize("size", SIZES)
def test_a_prover_proves_all_of_the_right_bytes(size: int) -> None:
    data = PATTERN[:size]
    prover = ChunkProver(size, reference_chunks(data))
    proved_by(prover, data)
    assert prover.proved == size


def test_a_prover_says_so_at_the_end_of_the_wrong_chunk() -> None:
    data = PATTERN[: 2 * CHUNK + 5]
    wrong = data[: CHUNK + 7] + b"!" + data[CHUNK + 8 :]
    assert proved_by(ChunkProver(len(data), reference_chunks(data)), wrong).index(False) == 2 * CHUNK // BUFFER - 1


def test_a_prover_has_proved_what_stands_before_the_wrong_chunk() -> None:
    data = PATTERN[: 2 * CHUNK]
    prover = ChunkProver(len(data), reference_chunks(data))
    proved_by(prover, data[:CHUNK] + b"!" + data[CHUNK + 1 :])
    assert prover.proved == CHUNK


def test_a_prover_can_begin_at_a_later_chunk() -> None:
    data = PATTERN[: 2 * CHUNK + 5]
    prover = ChunkProver(len(data), reference_chunks(data), CHUNK)
    proved_by(prover, data, CHUNK)
    assert prover.proved == len(data)


def test_a_prover_refuses_when_the_table_has_too_few_hashes() -> None:
    data = PATTERN[: CHUNK + 5]
    assert proved_by(ChunkProver(len(data), reference_chunks(data)[:32]), data)[-1] is False


@given(size=st.integers(0, 5 * CHUNK))
def test_pieces_cover_every_byte_once(size: int) -> None:
    cut = list(pieces(size))
    assert [offset for offset, _ in cut] == [sum(length for _, length in cut[:at]) for at in range(len(cut))]


@given(size=st.integers(0, 5 * CHUNK))
def test_no_piece_crosses_a_chunk_boundary(size: int) -> None:
    assert all(offset // CHUNK == (offset + length - 1) // CHUNK for offset, length in pieces(size))


def test_feed_hands_each_piece_to_every_update() -> None:
    first, second = bytearray(), bytearray()
    data = PATTERN[: 2 * BUFFER + 3]
    feed(MemoryBlob(b"head" + data), 4, len(data), [first.extend, second.extend], lambda size: None)
    assert first == second == data


def test_feed_reads_every_byte_once() -> None:
    blob = MemoryBlob(PATTERN[: 2 * BUFFER + 3])
    feed(blob, 0, blob.size, [], lambda size: None)
    assert blob.reads == [(0, BUFFER), (BUFFER, BUFFER), (2 * BUFFER, 3)]


def test_feed_tells_how_much_is_done() -> None:
    told: list[int] = []
    feed(MemoryBlob(PATTERN[: BUFFER + 3]), 0, BUFFER + 3, [], told.append)
    assert told == [BUFFER, 3]
