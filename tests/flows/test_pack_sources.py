"""Pack from where models live: one digest whatever the source, each byte read once, what is stated checked."""

from __future__ import annotations

import hashlib
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from modelctl.core.errors import ChecksumMismatch, Invalid
from modelctl.core.types import Digest
from modelctl.packing.cache import open_cache
from tests.fakes.fault_proxy import fault_proxy
from tests.fakes.hub import File
from tests.fakes.huggingface import HuggingFace
from tests.fakes.modelscope import ModelScope
from tests.fakes.oss import Fault, Oss
from tests.fakes.registries import Registry
from tests.flows.places import BUCKET, NAME, PLACES, PREFIX, Place
from tests.models import noise, shard, write_model
from tests.registries import pack_to, problems_at, tagged
from tests.stores import attached_to, blob_path, files_of, pack_model, problems, tags_of

SHARD = "model-00002-of-00004.safetensors"
HEADERS = 2000
"""More than the headers of the model's shards have, which are read twice [bytes]."""


@pytest.fixture
def files(model: Path) -> dict[str, bytes]:
    """The model's files; that one is not LFS' to keep and one is empty makes them all ways of reading."""
    (model / "empty.txt").touch()
    (model / "README.md").write_text("---\nlicense: apache-2.0\nmodel_name: Qwen3-8B\n---\n# Qwen\n")
    return files_of(model)


class TestOneDigest:
    @pytest.fixture
    def urls(
        self, model: Path, files: dict[str, bytes], home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[list[str]]:
        """The same model four times."""
        with ExitStack() as stack:
            places = [stack.enter_context(at(home)) for at in PLACES.values()]
            for place in places:
                place.put(files)
                for name, value in place.variables.items():
                    monkeypatch.setenv(name, value)
            yield [str(model), *(place.url for place in places)]

    @pytest.mark.parametrize("layout", ["image", "modelpack", "raw", "kserve"])
    def test_a_model_has_one_digest_wherever_it_comes_from(self, urls: list[str], tmp_path: Path, layout: str) -> None:
        options = {"layouts": (layout,), "annotations": {"org.example.run": "42"}, "exclude": ["tokenizer.json"]}
        found = {
            pack_model(url, tmp_path / str(number), **options).artifacts[0].digest for number, url in enumerate(urls)
        }

        assert len(found) == 1

    def test_what_was_packed_from_a_bucket_is_pulled_from_a_registry_as_it_was(
        self, urls: list[str], plain: Registry, repository: str
    ) -> None:
        for number, url in enumerate(urls):
            pack_to(url, f"{plain.host}/{repository}:v{number}", cache=False)

        assert [problems_at(f"{plain.host}/{repository}:v{number}") for number in range(4)] == [{}] * 4


def test_each_file_is_read_once(place: Place, files: dict[str, bytes], plain: Registry, repository: str) -> None:
    place.put(files)
    pack_to(place.url, f"{plain.host}/{repository}:v1")

    assert 0 <= place.sent() - sum(map(len, files.values())) <= HEADERS


def test_what_was_packed_verifies(place: Place, files: dict[str, bytes], store: Path) -> None:
    place.put(files)
    pack_model(place.url, store)

    assert problems(store) == {}


def test_provenance_holds_no_secret_and_no_path_of_this_machine(
    place: Place, files: dict[str, bytes], store: Path, tmp_path: Path
) -> None:
    place.put(files)
    pack_model(place.url, store)
    pack_model(write_model(tmp_path / "here"), store, "v2")
    tags = tags_of(store)
    stated = b""
    for attached in [*attached_to(store, tags["v1"]), *attached_to(store, tags["v2"])]:
        stated += b"".join(blob_path(store, layer["digest"]).read_bytes() for layer in attached["layers"])

    assert place.url.encode() in stated
    assert [word for word in (*place.secrets, str(tmp_path)) if word.encode() in stated] == []


class TestStated:
    """A file whose bytes are not what its source says of them."""

    def refused(self, url: str, store: Path, layout: str = "image") -> ChecksumMismatch:
        with pytest.raises(ChecksumMismatch) as caught:
            pack_model(url, store, layouts=(layout,))
        assert tags_of(store) == {}
        return caught.value

    @pytest.mark.parametrize("layout", ["image", "raw"])
    def test_a_wrong_crc64_of_a_bucket_is_refused(
        self, bucket: tuple[Place, Oss], files: dict[str, bytes], store: Path, layout: str
    ) -> None:
        place, server = bucket
        place.put(files)
        right = server.buckets[BUCKET][PREFIX + SHARD]
        server.buckets[BUCKET][PREFIX + SHARD] = replace(right, crc64=right.crc64 ^ 1)
        error = self.refused(place.url, store, layout)

        assert (error.what, error.why) == (
            SHARD,
            f"its CRC-64 is {right.crc64}; the source states {right.crc64 ^ 1}",
        )

    @pytest.mark.parametrize("layout", ["image", "raw"])
    @pytest.mark.parametrize("place", ["modelscope", "hf"], indirect=True)
    def test_a_wrong_sha256_of_a_hub_is_refused(
        self, place: Place, files: dict[str, bytes], store: Path, layout: str
    ) -> None:
        place.put(files)
        right = hashlib.sha256(files[SHARD]).hexdigest()
        vars(file_at(place, SHARD))["sha256"] = "0" * 64
        error = self.refused(place.url, store, layout)

        assert (error.what, error.why) == (SHARD, f"its sha256 is {right}; the source states {'0' * 64}")

    @pytest.mark.parametrize("place", ["hf"], indirect=True)
    def test_a_wrong_git_id_of_a_hub_is_refused(self, place: Place, files: dict[str, bytes], store: Path) -> None:
        place.put(files)
        right = file_at(place, "config.json").oid
        vars(file_at(place, "config.json"))["oid"] = "0" * 40
        error = self.refused(place.url, store)

        assert (error.what, error.why) == ("config.json", f"its git blob id is {right}; the source states {'0' * 40}")

    def test_nothing_is_tagged_in_a_registry(
        self, bucket: tuple[Place, Oss], files: dict[str, bytes], plain: Registry, repository: str
    ) -> None:
        place, server = bucket
        place.put(files)
        right = server.buckets[BUCKET][PREFIX + SHARD]
        server.buckets[BUCKET][PREFIX + SHARD] = replace(right, crc64=0)
        with pytest.raises(ChecksumMismatch, match=SHARD):
            pack_to(place.url, f"{plain.host}/{repository}:v1")

        assert not tagged(f"{plain.host}/{repository}:v1")


def file_at(place: Place, path: str) -> File:
    assert isinstance(place.server, HuggingFace | ModelScope)
    repository = place.server.repositories[NAME]
    return repository.commits[next(iter(repository.refs.values()))][path]


LARGE = "large.safetensors"
OLD = {LARGE: shard({"weights": noise(20 << 20, "old")}), "config.json": b"{}"}
NEW = {LARGE: shard({"weights": noise(20 << 20, "new")}), "config.json": b"{}"}


class TestAnotherVersion:
    """The source gets another version of a shard of 20 MiB while that is read."""

    @pytest.mark.parametrize("skip", range(8))
    def test_a_bucket_that_changes_is_refused(self, bucket: tuple[Place, Oss], store: Path, skip: int) -> None:
        place, server = bucket
        place.put(OLD)
        server.faults.append(Fault(LARGE, before=lambda: place.put(NEW), skip=skip))
        with pytest.raises(ChecksumMismatch, match=rf"{LARGE} changed while it was read"):
            pack_model(place.url, store)

        assert tags_of(store) == {}

    @pytest.mark.parametrize("place", ["modelscope", "hf"], indirect=True)
    def test_of_a_hub_all_files_are_of_the_commit_that_was_listed(
        self, place: Place, store: Path, tmp_path: Path
    ) -> None:
        assert isinstance(place.server, HuggingFace | ModelScope)
        place.put(OLD)
        expected = pack_model(place.url, tmp_path / "before").artifacts[0].digest
        place.server.on_request = lambda line: place.put(NEW) if LARGE in line else None

        assert pack_model(place.url, store, cache=False).artifacts[0].digest == expected


def test_a_layer_that_waits_for_its_source_ends_when_another_one_fails(bucket: tuple[Place, Oss], store: Path) -> None:
    place, server = bucket
    place.put({f"{name}.safetensors": shard({"w": noise(14 << 20, name)}) for name in ("silent", "gone")})
    waiting = threading.Event()
    part = f"bytes=0-{(4 << 20) - 1}"
    server.faults += [
        Fault(f"silent.safetensors {part}", before=waiting.set, stall=0, times=99),
        Fault(f"gone.safetensors {part}", before=lambda: waiting.wait(30), status=404),
    ]
    with pytest.raises(ChecksumMismatch, match="gone"):
        pack_model(place.url, store, memory=16 << 20, jobs=2)


class TestNames:
    @pytest.mark.parametrize(
        "path", ["../x", "/etc/x", "a/../x", "a//x", "a\nb", "a\x7fb", "a\\b", ".modelctl/x", "a/.wh.x", "\ud800"]
    )
    @pytest.mark.parametrize("place", ["oss", "hf"], indirect=True)
    def test_a_name_that_no_file_may_have_is_refused_by_name(
        self, place: Place, files: dict[str, bytes], store: Path, path: str
    ) -> None:
        if path == "\ud800" and isinstance(place.server, Oss):
            pytest.skip("keys of OSS are UTF-8")
        place.put(files | {path: b"bad"})
        with pytest.raises(Invalid, match=re.escape(repr(path))):
            pack_model(place.url, store)

        assert (store.exists(), place.sent()) == (False, 0)

    def test_two_names_that_clash_are_refused_by_both(self, place: Place, files: dict[str, bytes], store: Path) -> None:
        place.put(files | {"CONFIG.json": b"{}"})
        with pytest.raises(Invalid, match=r"'CONFIG\.json' and 'config\.json'"):
            pack_model(place.url, store)

        assert (store.exists(), place.sent()) == (False, 0)


class TestCrc32File:
    """A list on this machine, for files that are elsewhere."""

    @pytest.fixture
    def sums(self, files: dict[str, bytes], tmp_path: Path) -> Path:
        path = tmp_path / "sums.txt"
        path.write_text("".join(f"{zlib.crc32(data):08x} {name}\n" for name, data in files.items()))
        return path

    def test_a_list_that_is_right_passes(self, place: Place, files: dict[str, bytes], store: Path, sums: Path) -> None:
        place.put(files)
        pack_model(place.url, store, crc32_file=str(sums))

        assert problems(store) == {}

    def test_a_file_that_is_not_what_the_list_says_is_refused(
        self, place: Place, files: dict[str, bytes], store: Path, sums: Path
    ) -> None:
        place.put(files | {SHARD: shard({"layers.2.up": b"u", "layers.2.down": b"d"})})
        with pytest.raises(ChecksumMismatch, match=SHARD):
            pack_model(place.url, store, crc32_file=str(sums))

        assert tags_of(store) == {}

    def test_lines_for_the_list_itself_do_not_count(
        self, place: Place, files: dict[str, bytes], store: Path, sums: Path
    ) -> None:
        place.put(files)
        with sums.open("a") as file:
            file.write("00000000 crc32.txt\n")
        pack_model(place.url, store, crc32_file=str(sums))

        assert problems(store) == {}

    def test_the_models_own_list_is_heeded(self, place: Place, files: dict[str, bytes], store: Path) -> None:
        place.put(files | {"crc32.txt": f"00000000 {SHARD}\n".encode()})
        with pytest.raises(ChecksumMismatch, match=SHARD):
            pack_model(place.url, store)


class TestMemory:
    @pytest.mark.parametrize(("memory", "fewest", "most"), [(4 << 20, 1, 1), (8 << 20, 2, 2), (48 << 20, 4, 12)])
    def test_what_is_read_ahead_is_bounded(
        self, bucket: tuple[Place, Oss], store: Path, memory: int, fewest: int, most: int
    ) -> None:
        place, server = bucket
        place.put({f"{number}.safetensors": shard({"w": noise(14 << 20, number)}) for number in range(4)})
        server.latency_s = 0.02
        pack_model(place.url, store, memory=memory)

        assert fewest <= server.busiest <= most


@pytest.mark.parametrize("place", ["modelscope", "hf"], indirect=True)
class TestRawLayers:
    """The hub states the sha256 that is the digest of a raw layer, and the registry has it."""

    @pytest.fixture(autouse=True)
    def there(self, place: Place, files: dict[str, bytes], plain: Registry, repository: str) -> str:
        """The registry has the model; return where another tag of it would be."""
        place.put(files)
        pack_to(place.url, f"{plain.host}/{repository}:v1", layouts=("raw",))
        return f"{plain.host}/{repository}:v2"

    @pytest.fixture
    def forgotten(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The cache is another one."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))

    @pytest.mark.usefixtures("forgotten")
    def test_what_the_registry_has_is_read_and_not_sent(
        self, place: Place, files: dict[str, bytes], plain: Registry, repository: str
    ) -> None:
        before = place.sent()
        with fault_proxy(plain.host) as proxy:
            report = pack_to(place.url, f"{proxy.host}/{repository}:v2", layouts=("raw",))
            patched = proxy.patched

        assert place.sent() - before >= sum(map(len, files.values()))
        assert patched < len(files[SHARD])
        assert [layer.new for layer in report.layers if layer.kind == "weight"] == [False] * 4

    def test_what_another_repository_has_is_mounted_and_not_sent(
        self, place: Place, files: dict[str, bytes], plain: Registry, repository: str
    ) -> None:
        with fault_proxy(plain.host) as proxy:
            place.put(files | {"README.md": b"# another commit\n"})
            with open_cache() as cache:
                for entry in cache.entries():
                    cache.keep_place(Digest(entry.digest), proxy.host, repository)
            report = pack_to(place.url, f"{proxy.host}/{repository}-other:v1", layouts=("raw",))
            patched = proxy.patched

        assert patched < len(files[SHARD])
        assert [layer.new for layer in report.layers if layer.kind == "weight"] == [False] * 4

    @pytest.mark.usefixtures("forgotten")
    def test_a_dry_run_says_so(self, place: Place, there: str) -> None:
        report = pack_to(place.url, there, layouts=("raw",), dry_run=True)

        assert [layer.new for layer in report.layers if layer.kind == "weight"] == [False] * 4

    def test_what_the_cache_knows_is_not_even_read(self, place: Place, there: str) -> None:
        before = place.sent()
        pack_to(place.url, there, layouts=("raw",))

        assert place.sent() == before
