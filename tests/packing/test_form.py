import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.packing.form import ALIGN, Member, blob_size, frame

GOLDEN = Path(__file__).parents[1] / "golden"

GIB = 1 << 30

NAMES = [
    "a",
    "model-00001-of-00163.safetensors",
    "x" * 99,
    "x" * 100,
    "x" * 101,
    "d/" * 60 + "x",
    "é",
    "模型/权重.safetensors",
    "é" * 50,
    "é" * 127,
    "/".join(["y" * 250] * 16),
    " = ",
    "12 comment=x",
]

names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=150).map(
    lambda text: text.strip("/.") or "x"
)
member_lists = st.dictionaries(names, st.binary(max_size=3000), max_size=6)


def blob_of(files: dict[str, bytes]) -> bytes:
    parts = []
    for piece in frame("tar", [Member(path, len(data)) for path, data in files.items()]):
        parts += [piece.head, files[piece.member.path] if piece.member else b""]
    return b"".join(parts)


def heads(*members: Member) -> bytes:
    """Return the headers of members as tarfile sees them when nothing but headers is there."""
    return b"".join(piece.head for piece in frame("tar", members))


def pax_records(head: bytes) -> list[tuple[int, bytes]]:
    """Split the records of a pax header into (stated length, bytes), going by the stated lengths."""
    size = int(head[124:135], 8)
    rest, records = head[512 : 512 + size], []
    while rest:
        length = int(rest.split(b" ", 1)[0])
        records.append((length, rest[:length]))
        rest = rest[length:]
    return records


@given(files=member_lists)
def test_tarfile_reads_back_every_member(files: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=io.BytesIO(blob_of(files)), mode="r:") as tar:
        found = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    assert found == {name.rstrip("/"): data for name, data in files.items()}


@given(files=member_lists)
def test_tarfile_finds_the_bytes_where_the_frame_says(files: dict[str, bytes]) -> None:
    pieces = list(frame("tar", [Member(path, len(data)) for path, data in files.items()]))
    with tarfile.open(fileobj=io.BytesIO(blob_of(files)), mode="r:") as tar:
        assert [info.offset_data for info in tar] == [piece.offset for piece in pieces[:-1]]


@given(files=member_lists)
def test_the_bytes_of_every_file_start_at_a_multiple_of_4096(files: dict[str, bytes]) -> None:
    pieces = frame("tar", [Member(path, len(data)) for path, data in files.items()])
    assert [piece.offset % ALIGN for piece in pieces if piece.member] == [0] * len(files)


@given(files=member_lists)
def test_the_size_of_a_blob_is_known_before_it_is_written(files: dict[str, bytes]) -> None:
    assert blob_size("tar", [Member(path, len(data)) for path, data in files.items()]) == len(blob_of(files))


@given(files=member_lists)
def test_a_blob_is_whole_tar_blocks_and_ends_in_two_of_zeros(files: dict[str, bytes]) -> None:
    blob = blob_of(files)
    assert (len(blob) % 512, blob[-1024:]) == (0, bytes(1024))


@given(name=names, size=st.integers(0, 1 << 60))
def test_the_records_of_a_pax_header_count_their_own_bytes(name: str, size: int) -> None:
    records = pax_records(heads(Member(name, size)))
    assert [length for length, _ in records] == [len(record) for _, record in records]


@given(name=names, size=st.integers(0, 1 << 60))
def test_every_pax_record_ends_in_a_newline(name: str, size: int) -> None:
    assert {record[-1:] for _, record in pax_records(heads(Member(name, size)))} == {b"\n"}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_comes_back_as_it_was(name: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(blob_of({name: b"content"})), mode="r:") as tar:
        assert tar.getnames() == [name]


@pytest.mark.parametrize("size", [0, 1, 8 * GIB - 1, 8 * GIB, 8 * GIB + 1, 700 * GIB, 1 << 60])
def test_a_size_comes_back_as_it_was(size: int) -> None:
    with tarfile.open(fileobj=io.BytesIO(heads(Member("model.gguf", size))), mode="r:") as tar:
        info = tar.next()
    assert info is not None
    assert info.size == size


@pytest.mark.parametrize("size", [0, 1, 8 * GIB - 1, 8 * GIB, 1 << 60])
@pytest.mark.parametrize("name", ["a", "x" * 100, "é", "x" * 255])
def test_a_file_alone_starts_at_4096(name: str, size: int) -> None:
    assert next(frame("tar", [Member(name, size)])).offset == 4096


def test_a_path_that_needs_more_room_moves_the_file_by_a_whole_page() -> None:
    assert next(frame("tar", [Member("/".join(["y" * 250] * 16), 1)])).offset == 2 * ALIGN


@pytest.mark.parametrize("length", range(2950, 3100))
def test_however_little_room_a_path_leaves_the_file_is_aligned(length: int) -> None:
    assert next(frame("tar", [Member("p" * length, 1)])).offset % ALIGN == 0


def test_owner_time_and_mode_are_fixed() -> None:
    with tarfile.open(fileobj=io.BytesIO(blob_of({"a": b"a"})), mode="r:") as tar:
        info = tar.getmember("a")
    assert (info.uid, info.gid, info.mtime, info.mode, info.type, info.uname) == (0, 0, 0, 0o644, tarfile.REGTYPE, "")


def test_an_empty_blob_is_the_end_alone() -> None:
    assert blob_of({}) == bytes(1024)


def test_a_raw_blob_is_the_file() -> None:
    pieces = [(piece.head, piece.offset) for piece in frame("raw", [Member("a", 5)])]
    assert pieces == [(b"", 0), (b"", 5)]


def test_a_raw_blob_holds_one_file() -> None:
    with pytest.raises(ValueError, match="too many"):
        list(frame("raw", [Member("a", 5), Member("b", 5)]))


def test_the_headers_are_those_of_the_first_release() -> None:
    members = [Member("a.json", 700), Member("模型.md", 3), Member("n" * 101, 0), Member("big", 8 * GIB)]
    assert heads(*members) == (GOLDEN / "headers.bin").read_bytes()
