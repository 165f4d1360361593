import json
from collections.abc import Set
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.errors import ChecksumMismatch, Invalid, NotFound
from modelctl.core.types import Entry
from modelctl.packing.preflight import check_listed, check_names, check_shards, own_crc32s, read_small
from tests.fakes.memory import MemorySource
from tests.models import shard

INDEX = "model.safetensors.index.json"

SHARDS = {
    "model-1.safetensors": shard({"a": b"aaaa", "b": b"bb"}),
    "model-2.safetensors": shard({"c": b"c"}),
}


def check(files: dict[str, bytes], allow_pickle: bool = False, fresh: Set[str] | None = None) -> None:
    source = MemorySource(files)
    entries = list(source.list())
    check_names(entries, allow_pickle=allow_pickle)
    check_shards(source, entries, files.keys() if fresh is None else fresh, partial(read_small, source))


def index(weight_map: object) -> dict[str, bytes]:
    return SHARDS | {INDEX: json.dumps({"weight_map": weight_map}).encode()}


def test_a_good_model_passes() -> None:
    check(index({"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}))


def test_an_empty_model_is_refused() -> None:
    with pytest.raises(NotFound, match="no file to pack"):
        check({})


@pytest.mark.parametrize("path", ["../x", "/x", "", "a\nb", ".wh.x", ".modelctl/x", "x" * 256, "caf\udce9"])
def test_a_bad_name_is_refused(path: str) -> None:
    with pytest.raises(Invalid, match="file name "):
        check({path: b""})


@pytest.mark.parametrize("other", ["A.JSON", "a.json/b"])
def test_names_that_clash_are_refused(other: str) -> None:
    with pytest.raises(Invalid, match="file names "):
        check({"a.json": b"", other: b""})


class TestPickles:
    PICKLES = ("pytorch_model.bin", "a.pt", "sub/a.pth", "a.ckpt", "a.pkl", "a.pickle", "A.PKL", "a.Bin")

    @pytest.mark.parametrize("path", PICKLES)
    def test_a_pickle_is_refused_by_name(self, path: str) -> None:
        with pytest.raises(Invalid, match=f"{path}\n  why: a pickle runs code"):
            check({path: b""})

    @pytest.mark.parametrize("path", PICKLES)
    def test_a_pickle_may_be_allowed(self, path: str) -> None:
        check({path: b""}, allow_pickle=True)

    def test_an_allowed_pickle_is_not_loaded(self) -> None:
        check({"a.pkl": b"cos\n_exit\n(I99\ntR."}, allow_pickle=True)

    def test_further_pickles_are_counted(self) -> None:
        with pytest.raises(Invalid, match=r"a\.pt and 2 more"):
            check({"a.pt": b"", "b.pt": b"", "c.pt": b""})


class TestShards:
    def test_a_broken_shard_is_refused_by_name(self) -> None:
        with pytest.raises(Invalid, match=r"sub/model\.safetensors: not a valid safetensors file"):
            check({"sub/model.safetensors": b"garbage!garbage!"})

    def test_a_shard_without_an_index_is_enough(self) -> None:
        check({"model.safetensors": SHARDS["model-1.safetensors"]})


class TestIndex:
    @pytest.mark.parametrize(
        "name",
        [
            "model-3.safetensors",
            "../model-1.safetensors",
            "/model-1.safetensors",
            "",
            ".",
            "config.json",
            "sub/../model-1.safetensors",
        ],
    )
    def test_a_shard_that_is_not_there_is_refused_by_both_names(self, name: str) -> None:
        with pytest.raises(Invalid) as refused:
            check(index({"a": name}) | {"config.json": b"{}"})
        assert refused.value.what == f"{INDEX} names {name!r}, which is not there"

    def test_a_tensor_in_another_shard_is_refused_by_both_names(self) -> None:
        with pytest.raises(Invalid) as refused:
            check(index({"a": "model-2.safetensors"}))
        assert refused.value.what == f"{INDEX} puts tensor 'a' in 'model-2.safetensors'"

    def test_of_a_shard_that_was_packed_before_no_header_is_read(self) -> None:
        files = index({"a": "model-1.safetensors", "c": "model-2.safetensors"}) | {"model-1.safetensors": b"x"}
        check(files, fresh={"model-2.safetensors"})

    @pytest.mark.parametrize("fresh", [set(), {"model-2.safetensors"}])
    def test_a_shard_that_is_gone_is_missed_whatever_was_packed_before(self, fresh: set[str]) -> None:
        with pytest.raises(Invalid, match="which is not there"):
            check(index({"a": "gone.safetensors"}), fresh=fresh)

    def test_a_tensor_of_a_fresh_shard_is_looked_for(self) -> None:
        with pytest.raises(Invalid, match="that shard does not hold it"):
            check(index({"a": "model-2.safetensors"}), fresh={"model-2.safetensors"})

    def test_a_fresh_index_is_compared_with_all_shards(self) -> None:
        with pytest.raises(Invalid, match="that shard does not hold it"):
            check(index({"a": "model-2.safetensors"}), fresh={INDEX})

    def test_an_index_speaks_of_its_own_folder(self) -> None:
        files = {f"unet/{path}": data for path, data in index({"a": "model-1.safetensors"}).items()}
        check(files)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"not json",
            b"\xff\xfe",
            b"[]",
            b"null",
            b"{}",
            b'{"weight_map": []}',
            b'{"weight_map": {"a": 1}}',
            b'{"weight_map": null}',
            b"[" * 200_000,
            b'{"a":' * 200_000,
            b'{"weight_map": {}, "x": ' + b"9" * 5000 + b"}",
        ],
        ids=range(12),
    )
    def test_what_is_no_index_is_refused_by_name(self, data: bytes) -> None:
        with pytest.raises(Invalid, match=r"^invalid: model\.safetensors\.index\.json"):
            check(SHARDS | {INDEX: data})

    @given(data=st.binary(max_size=60))
    def test_random_bytes_are_refused(self, data: bytes) -> None:
        with pytest.raises(Invalid, match="is not an index of shards"):
            check(SHARDS | {INDEX: b"!" + data})


class TestCrc32s:
    ENTRIES = (Entry(path="a", size=1), Entry(path="b", size=1))

    def test_the_models_own_list_is_read(self) -> None:
        source = MemorySource({"crc32.txt": b"00000001 a\n00000000 crc32.txt\n", "a": b"a"})
        assert own_crc32s(list(source.list()), partial(read_small, source)) == {"a": 1}

    def test_a_list_in_a_subfolder_is_an_ordinary_file(self) -> None:
        source = MemorySource({"sub/crc32.txt": b"00000001 a\n"})
        assert own_crc32s(list(source.list()), partial(read_small, source)) == {}

    def test_a_list_that_names_a_missing_file_is_refused_by_name(self) -> None:
        with pytest.raises(NotFound, match=r"not-found: c and 1 more\n  why: sums\.txt lists it"):
            check_listed({"a": 1, "c": 2, "d": 3}, self.ENTRIES, "sums.txt", lambda path: True)

    def test_a_list_may_name_files_that_are_left_out(self) -> None:
        check_listed({"a": 1, ".cache/x": 2}, self.ENTRIES, "sums.txt", lambda path: not path.startswith(".cache"))

    def test_a_list_need_not_name_every_file(self) -> None:
        check_listed({"a": 1}, self.ENTRIES, "sums.txt", lambda path: True)


def test_a_small_file_is_read_whole() -> None:
    source = MemorySource({"a": b"abc"})
    assert read_small(source, Entry(path="a", size=3), 3) == b"abc"


def test_a_file_above_the_limit_is_refused_unread() -> None:
    with pytest.raises(Invalid, match="it has 1000000000000 bytes; at most 10 are read"):
        read_small(MemorySource({}), Entry(path="a", size=10**12), 10)


def test_a_file_that_shrank_is_refused() -> None:
    with pytest.raises(ChecksumMismatch):
        read_small(MemorySource({"a": b"ab"}), Entry(path="a", size=3), 3)
