import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelctl.core.chunks import CHUNK, HASH_SIZE, chunk_count
from modelctl.core.errors import Invalid
from modelctl.core.types import Digest, FileRow, canonical_json, digest_of
from modelctl.packing.table import MEMBERS, Table, join_table, parse_table, render_table
from tests.models import noise

LAYER = digest_of(b"layer")

paths = st.text("abcé模", min_size=1, max_size=6).map(lambda name: f"d-{name}/f-{name}")
digests = st.binary(max_size=2).map(digest_of)


def row(
    path: str, size: int = 5, *, layer: Digest = LAYER, offset: int = 4096, crc32: int = 1, crc64: int = 2
) -> FileRow:
    chunks = noise(chunk_count(size) * HASH_SIZE, path)
    return FileRow(path=path, size=size, layer=layer, offset=offset, crc32=crc32, crc64=crc64, chunks=chunks)


rows = st.builds(
    row,
    path=paths,
    size=st.sampled_from([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK]),
    layer=digests,
    offset=st.integers(0, 1 << 60),
    crc32=st.integers(0, 2**32 - 1),
    crc64=st.integers(0, 2**64 - 1),
)
tables = st.builds(
    Table,
    st.lists(rows, max_size=5, unique_by=lambda row: row.path.casefold()).map(tuple),
    st.sampled_from(["", "models/", "a/b/"]),
)

SMALL = Table((row("a.json"), row("b/c.safetensors", CHUNK + 1)), "")
BLOB = render_table(SMALL)


def sorted_rows(table: Table) -> Table:
    return Table(tuple(sorted(table.rows, key=lambda row: row.path.encode())), table.prefix)


def blob_of(files: object, chunks: bytes = b"", crc32s: bytes = b"") -> bytes:
    """Return a table's blob with any document as its files.json."""
    return join_table(dict(zip(MEMBERS, (canonical_json(files), chunks, crc32s), strict=True)))


def files_of(**changes: object) -> dict[str, object]:
    """Return the files.json of a table with one empty file, with its row changed."""
    file = {"path": "a", "size": 0, "layer": LAYER, "offset": 0, "crc32": "00000000", "crc64": "0"}
    return {"format": 1, "chunkSize": CHUNK, "prefix": "", "files": [file | changes]}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_row_without_a_hash_for_each_chunk_is_refused(count: int) -> None:
    short = msgspec.structs.replace(row("a", CHUNK + 1), chunks=bytes(HASH_SIZE * count))
    with pytest.raises(Invalid, match=f"there are hashes of {count} chunks; it has 2"):
        render_table(Table((short,)))


@given(table=tables)
def test_a_table_is_read_back_as_it_was(table: Table) -> None:
    assert parse_table(render_table(table)) == sorted_rows(table)


@given(table=tables)
def test_the_order_of_the_rows_does_not_matter(table: Table) -> None:
    assert render_table(Table(table.rows[::-1], table.prefix)) == render_table(table)


@given(data=st.binary(max_size=2000))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        parse_table(data)


@given(data=st.binary(min_size=1, max_size=100), at=st.integers(0, len(BLOB)))
def test_bytes_put_into_a_table_are_refused(data: bytes, at: int) -> None:
    with pytest.raises(Invalid):
        parse_table(BLOB[:at] + data + BLOB[at:])


@pytest.mark.parametrize("cut", range(0, len(BLOB), 97))
def test_a_table_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(Invalid):
        parse_table(BLOB[:cut])


@settings(max_examples=400)
@given(at=st.integers(0, len(BLOB) - 1), flip=st.integers(1, 255))
def test_a_table_with_one_wrong_byte_is_refused_or_the_bytes_of_another_table(at: int, flip: int) -> None:
    mutated = BLOB[:at] + bytes([BLOB[at] ^ flip]) + BLOB[at + 1 :]
    try:
        table = parse_table(mutated)
    except Invalid:
        return
    assert (render_table(table), table == SMALL) == (mutated, False)


@pytest.mark.parametrize("at", [0, 100, 156, 257, 511, 512, 2000, 3584, 3600, 3720, 4095])
def test_no_header_of_a_table_may_be_another(at: int) -> None:
    mutated = bytearray(BLOB)
    mutated[at] ^= 1
    with pytest.raises(Invalid):
        parse_table(bytes(mutated))


BAD_DOCUMENTS = {
    "no object": [],
    "another format": files_of() | {"format": 2},
    "other chunks": files_of() | {"chunkSize": 4 << 20},
    "an unknown key": files_of() | {"x": 1},
    "no files": {"format": 1, "chunkSize": CHUNK, "prefix": ""},
    "an unknown key of a file": files_of(x=1),
    "a path out of the folder": files_of(path="../x"),
    "an absolute path": files_of(path="/etc/passwd"),
    "an empty path": files_of(path=""),
    "modelctl's own path": files_of(path=".modelctl/files.json"),
    "a deletion": files_of(path=".wh.a"),
    "a negative size": files_of(size=-1),
    "a size above 2**60": files_of(size=(1 << 60) + 1),
    "a size that is no number": files_of(size="0"),
    "a negative offset": files_of(offset=-1),
    "a digest that is none": files_of(layer="sha256:../../etc/passwd"),
    "a short CRC-32": files_of(crc32="0"),
    "a CRC-32 in capitals": files_of(crc32="ABCDEF01"),
    "a CRC-32 with a newline": files_of(crc32="00000000\n"),
    "a CRC-64 with a zero in front": files_of(crc64="01"),
    "a negative CRC-64": files_of(crc64="-1"),
    "a size that no hashes are there for": files_of(size=1),
    "a size that needs more hashes than memory": files_of(size=1 << 60),
    "a prefix out of the folder": files_of() | {"prefix": "../"},
    "an absolute prefix": files_of() | {"prefix": "/"},
    "a prefix that is not normal": files_of() | {"prefix": "a//"},
    "a prefix in modelctl's own folder": files_of() | {"prefix": ".modelctl/"},
    "a prefix without its slash": files_of() | {"prefix": "models"},
}


@pytest.mark.parametrize("case", BAD_DOCUMENTS)
def test_a_table_that_no_packer_writes_is_refused(case: str) -> None:
    with pytest.raises(Invalid):
        parse_table(blob_of(BAD_DOCUMENTS[case], b"", b"00000000 a\n"))


def test_the_document_that_those_are_made_of_is_good() -> None:
    assert [row.path for row in parse_table(blob_of(files_of(), b"", b"00000000 a\n")).rows] == ["a"]


@pytest.mark.parametrize("pair", [("a", "a"), ("a", "A"), ("é", "e\u0301"), ("a", "a/b")])
def test_a_table_with_names_that_clash_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(Invalid, match="file names"):
        parse_table(render_table(Table((row(pair[0], 0), row(pair[1], 0)))))


def test_a_newer_format_is_refused_with_both_versions() -> None:
    with pytest.raises(Invalid, match="its format is 2; this modelctl reads 1"):
        parse_table(blob_of(files_of() | {"format": 2}))


def test_a_crc32_list_that_says_otherwise_is_refused() -> None:
    with pytest.raises(Invalid, match=r"crc32\.txt says otherwise"):
        parse_table(blob_of(files_of(), b"", b"00000001 a\n"))


def test_a_document_that_is_not_canonical_is_refused() -> None:
    loose = json.dumps(files_of(), indent=1).encode()
    with pytest.raises(Invalid, match="not in canonical form"):
        parse_table(join_table(dict(zip(MEMBERS, (loose, b"", b"00000000 a\n"), strict=True))))


def test_a_document_nested_deeply_is_refused() -> None:
    with pytest.raises(Invalid):
        parse_table(join_table(dict(zip(MEMBERS, (b"[" * 200_000, b"", b""), strict=True))))


@pytest.mark.parametrize("document", [b"\xff", b"", b'{"prefix":"\\ud800"}', b"{" + b"9" * 5000])
def test_a_document_that_is_not_json_is_refused(document: bytes) -> None:
    with pytest.raises(Invalid):
        parse_table(join_table(dict(zip(MEMBERS, (document, b"", b""), strict=True))))


@given(
    document=st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["format", "chunkSize", "prefix", "files", "path"]), inner, max_size=4)
        ),
    )
)
def test_a_document_of_any_json_is_refused(document: object) -> None:
    with pytest.raises(Invalid):
        parse_table(blob_of(document))
