import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.errors import Invalid
from modelctl.packing.shards import read_shard
from tests.fakes.memory import MemoryBlob
from tests.models import headed, shard


def info(start: int, end: int, dtype: str = "U8", shape: list[int] | None = None) -> dict[str, object]:
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


def file_of(header: object, size: int = 4) -> bytes:
    return headed(json.dumps(header).encode(), bytes(size))


def read(data: bytes) -> object:
    return read_shard(MemoryBlob(data), "a.safetensors", len(data))


GOOD = file_of({"a": info(0, 4)})

BROKEN = {
    "an empty file": b"",
    "a file of 7 bytes": b"1234567",
    "no header after its length": struct.pack("<Q", 20),
    "a header cut short": GOOD[:20],
    "data cut short": GOOD[:-1],
    "data too long": GOOD + b"!",
    "a header of 2**63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
    "a header of 2**64-1 bytes": b"\xff" * 8 + b"{}",
    "a header of more than 100 MB": struct.pack("<Q", 100_000_001) + b"{}",
    "a header longer than the file": struct.pack("<Q", 500) + b"{}",
    "a header of length 0": headed(b""),
    "a header that is not JSON": headed(b"{'a': 1}"),
    "a header that is not UTF-8": headed(b'{"\xff": 1}'),
    "a header in UTF-16": headed(json.dumps({"a": info(0, 4)}).encode("utf-16"), bytes(4)),
    "a header with a byte order mark": headed(b"\xef\xbb\xbf" + json.dumps({"a": info(0, 4)}).encode(), bytes(4)),
    "a list": file_of([]),
    "null": file_of(None),
    "a number": file_of(1),
    "a key twice": headed(b'{"a":%b,"a":%b}' % ((json.dumps(info(0, 4)).encode(),) * 2), bytes(4)),
    "a key of a tensor twice": headed(b'{"a":{"dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4]}}', bytes(4)),
    "NaN": headed(b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)),
    "Infinity": headed(b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,Infinity]}}', bytes(4)),
    "NaN in the metadata": headed(b'{"__metadata__":{"x":NaN}}'),
    "metadata that is not text": file_of({"__metadata__": {"x": 1}, "a": info(0, 4)}),
    "overlapping tensors": file_of({"a": info(0, 3), "b": info(2, 4)}),
    "the same place twice": file_of({"a": info(0, 4), "b": info(0, 4)}),
    "a gap between tensors": file_of({"a": info(0, 1), "b": info(2, 4)}),
    "a gap before the first": file_of({"a": info(1, 4)}),
    "tensors that do not cover the file": file_of({"a": info(0, 3)}),
    "tensors behind the file": file_of({"a": info(0, 5)}),
    "offsets that go back": file_of({"a": info(4, 0, shape=[4])}),
    "three offsets": file_of({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4, 8]}}),
    "no offsets": file_of({"a": {"dtype": "U8", "shape": [4]}}),
    "a negative offset": file_of({"a": info(-1, 3, shape=[4])}),
    "a negative shape": file_of({"a": info(0, 4, shape=[-4])}),
    "a fraction in a shape": file_of({"a": {"dtype": "U8", "shape": [4.5], "data_offsets": [0, 4]}}),
    "a shape that needs more bytes": file_of({"a": info(0, 4, shape=[5])}),
    "a dtype that needs more bytes": file_of({"a": info(0, 4, "F32", [4])}),
    "a shape whose size overflows": file_of({"a": info(0, 4, shape=[1 << 32, 1 << 32, 1 << 32])}),
    "a shape above 64 bits": file_of({"a": info(0, 4, shape=[1 << 80])}),
    "an offset above 64 bits": file_of({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 1 << 64]}}),
    "an integer of 5000 digits": headed(b'{"a":{"dtype":"U8","shape":[%b],"data_offsets":[0,4]}}' % (b"9" * 5000)),
    "an unknown dtype": file_of({"a": info(0, 4, "U7")}),
    "a dtype that is not text": file_of({"a": {"dtype": 8, "shape": [4], "data_offsets": [0, 4]}}),
    "an unknown field": file_of({"a": info(0, 4) | {"x": 1}}),
    "a lone surrogate as a field": headed(
        b'{"a":{"\\ud800":1,"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', bytes(4)
    ),
    "a lone surrogate as a name": headed(b'{"\\ud800":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', bytes(4)),
    "lists nested deeply": headed(b"[" * 200_000),
    "objects nested deeply": headed(b'{"a":' * 200_000),
    "nothing but data": headed(b"{}", bytes(4)),
    "text after the object": headed(json.dumps({"a": info(0, 4)}).encode() + b"x", bytes(4)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_by_name(case: str) -> None:
    with pytest.raises(Invalid, match=r"a\.safetensors: not a valid safetensors file\n  why: .+\n  try: "):
        read(BROKEN[case])


@pytest.mark.parametrize("length", [100_000_001, 1 << 63])
def test_a_header_that_claims_too_much_is_refused_by_the_figure(length: int) -> None:
    with pytest.raises(Invalid, match=str(length)):
        read(struct.pack("<Q", length) + b"{}")


@pytest.mark.parametrize("length", [100_000_001, 1 << 63, 500])
def test_a_header_that_claims_too_much_is_not_read(length: int) -> None:
    blob = MemoryBlob(struct.pack("<Q", length) + b"{}")
    with pytest.raises(Invalid):
        read_shard(blob, "a.safetensors", blob.size)
    assert blob.reads == [(0, 8)]


@given(header=st.binary(max_size=200), data=st.binary(max_size=8))
def test_whatever_a_header_holds_it_is_read_or_refused(header: bytes, data: bytes) -> None:
    with pytest.raises(Invalid):
        read(headed(b"!" + header, data))


@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        read(b"\xff" * 7 + data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["U8", "F32", "BF16", "F8_E4M3", "X"]) | json_values,
        "shape": st.lists(st.integers(-1, 9), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 9), min_size=2, max_size=2) | json_values,
        "other": json_values,
    },
)


@given(header=st.dictionaries(st.text(max_size=3), fields | json_values, max_size=3), size=st.integers(0, 12))
def test_a_header_of_any_json_is_read_whole_or_refused(header: dict[str, object], size: int) -> None:
    data = file_of(header, size)
    try:
        found = read_shard(MemoryBlob(data), "a.safetensors", len(data))
    except Invalid:
        return
    assert sum(tensor.size for tensor in found.tensors) == size


def test_tensors_come_in_file_order_with_their_places_in_the_file() -> None:
    data = file_of({"b": info(2, 4), "a": info(0, 2), "__metadata__": {"format": "pt"}})
    found = read_shard(MemoryBlob(data), "a.safetensors", len(data))
    start = len(data) - 4
    assert [(tensor.name, tensor.offset, tensor.size) for tensor in found.tensors] == [
        ("a", start, 2),
        ("b", start + 2, 2),
    ]


def test_metadata_is_kept() -> None:
    data = file_of({"a": info(0, 4), "__metadata__": {"format": "pt"}})
    assert read_shard(MemoryBlob(data), "a.safetensors", len(data)).metadata == {"format": "pt"}


@pytest.mark.parametrize(
    "data", [headed(b"{}"), file_of({"a": info(0, 0, shape=[0])}, 0), file_of({"a": info(0, 1, shape=[])}, 1)]
)
def test_tensors_may_be_absent_empty_or_scalar(data: bytes) -> None:
    read(data)


def test_a_header_padded_with_spaces_is_valid() -> None:
    read(headed(json.dumps({"a": info(0, 4)}).encode() + b" " * 9, bytes(4)))


def test_no_byte_of_a_tensor_is_read() -> None:
    data = shard({"a": bytes(100_000), "b": bytes(50_000)})
    blob = MemoryBlob(data)
    read_shard(blob, "a.safetensors", blob.size)
    assert max(offset + size for offset, size in blob.reads) == len(data) - 150_000


def test_a_shard_inside_a_layer_is_read_from_its_offset() -> None:
    data = shard({"a": bytes(100)})
    blob = MemoryBlob(bytes(4096) + data)
    assert [tensor.name for tensor in read_shard(blob, "a.safetensors", len(data), 4096).tensors] == ["a"]


def test_a_size_that_no_machine_can_map_is_refused() -> None:
    with pytest.raises(Invalid):
        read_shard(MemoryBlob(GOOD), "a.safetensors", 1 << 60)
