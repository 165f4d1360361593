"""Pack again: what has not changed is not read, by the cache or by the previous artifact's provenance."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelctl.core.errors import DigestMismatch, Invalid
from modelctl.core.types import Digest
from modelctl.flows.pack import PackReport
from modelctl.packing.cache import SETTLED_S, open_cache
from tests.cli.program import run
from tests.fakes.fault_proxy import Fault, fault_proxy
from tests.fakes.oss import Oss
from tests.fakes.registries import Registry
from tests.flows.places import BUCKET, PREFIX, Place
from tests.models import noise, shard, write_model
from tests.registries import pack_to, problems_at, tagged
from tests.stores import attached_to, blob_path, files_of, flip, layer_of, pack_model, problems, tags_of

SHARD = "model-00002-of-00004.safetensors"
CARD = b"---\nlicense: apache-2.0\nmodel_name: Qwen3-8B\n---\n# Qwen\n"
OTHER = shard({"layers.2.up": noise(50_000, "other"), "layers.2.down": noise(50_000, "down")})


@pytest.fixture
def files(model: Path) -> dict[str, bytes]:
    """The model's files, with a card that says something."""
    return files_of(model) | {"README.md": CARD}


@pytest.fixture
def there(place: Place, files: dict[str, bytes], plain: Registry, repository: str) -> str:
    """Where the model at `place` was packed to, in a registry."""
    place.put(files)
    pack_to(place.url, f"{plain.host}/{repository}:v1")
    return f"{plain.host}/{repository}:v1"


@pytest.fixture(params=["cache", "previous artifact"])
def known_by(request: pytest.FixtureRequest, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What knows the model: the cache, or, as for a CI runner, provenance alone."""
    if request.param == "previous artifact":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "fresh"))
    return str(request.param)


@pytest.fixture
def read(place: Place, there: str) -> Callable[[], int]:
    """Tell how many bytes were read of the source since it was packed."""
    before = place.sent()
    return lambda: place.sent() - before


def news(report: PackReport) -> list[str]:
    return [path for layer in report.layers if layer.new for path in layer.files]


@pytest.mark.usefixtures("known_by")
class TestUnchanged:
    def test_nothing_is_read(self, place: Place, there: str, read: Callable[[], int]) -> None:
        report = pack_to(place.url, there)

        assert (read(), report.new_size, news(report)) == (0, 0, [])

    def test_the_digest_is_the_same(self, place: Place, there: str, store: Path) -> None:
        assert pack_to(place.url, there).artifacts == pack_to(place.url, there, cache=False).artifacts

    def test_a_dry_run_says_that_nothing_is_to_be_sent(self, place: Place, there: str, read: Callable[[], int]) -> None:
        report = pack_to(place.url, there, dry_run=True)

        assert (read(), report.new_size, news(report)) == (0, 0, [])

    def test_without_the_cache_everything_is_read(
        self, place: Place, there: str, files: dict[str, bytes], read: Callable[[], int]
    ) -> None:
        pack_to(place.url, there, cache=False)

        assert read() >= sum(map(len, files.values()))

    def test_a_shard_that_is_gone_is_missed(self, place: Place, there: str, files: dict[str, bytes]) -> None:
        place.put({path: data for path, data in files.items() if path != SHARD})
        with pytest.raises(Invalid, match=f"names '{SHARD}', which is not there"):
            pack_to(place.url, there)


@pytest.mark.usefixtures("known_by")
class TestOneShardChanged:
    @pytest.fixture(autouse=True)
    def changed(self, place: Place, there: str, files: dict[str, bytes], read: Callable[[], int]) -> None:
        place.put(files | {SHARD: OTHER})

    def test_only_that_is_read_and_sent(
        self, place: Place, there: str, plain: Registry, read: Callable[[], int]
    ) -> None:
        with fault_proxy(plain.host) as proxy:
            report = pack_to(place.url, f"{proxy.host}/{there.partition('/')[2]}")
            patched = proxy.patched

        assert news(report) == [SHARD]
        assert read() == len(OTHER) + 8 + int.from_bytes(OTHER[:8], "little")  # its header twice
        assert len(OTHER) <= patched < len(OTHER) + 60_000  # and table, config, statement

    def test_what_was_packed_verifies(self, place: Place, there: str) -> None:
        pack_to(place.url, there)

        assert problems_at(there) == {}

    def test_a_dry_run_names_it_with_its_size(self, place: Place, there: str) -> None:
        report = pack_to(place.url, there, dry_run=True)
        sizes = {tuple(layer.files): layer.size for layer in report.layers}

        assert (news(report), report.new_size) == ([SHARD], sizes[SHARD,])

    def test_a_dry_run_prints_what_changed_and_how_much_of_all_that_is(self, place: Place, there: str) -> None:
        printed = run("pack", place.url, there, "--dry-run", **place.variables).stdout.splitlines()

        assert [line for line in printed if "  new   " in line] == [f"   2  new   weight   105.5 kB  {SHARD}"]
        assert printed[-1].startswith("1 of 6 layers changed, 105.5 kB of 441.3 kB to send; 8 files ")


def test_a_file_of_another_crc64_is_read_though_its_version_is_the_same(
    bucket: tuple[Place, Oss], files: dict[str, bytes], store: Path
) -> None:
    place, server = bucket
    place.put(files)
    pack_model(place.url, store)
    objects, name = server.buckets[BUCKET], PREFIX + SHARD
    before = objects[name]
    place.put(files | {SHARD: OTHER})
    objects[name] = replace(objects[name], etag=before.etag)
    report = pack_model(place.url, store)

    assert (news(report), problems(store)) == ([SHARD], {})


class TestProvenance:
    def test_a_repack_adds_no_second(self, place: Place, files: dict[str, bytes], store: Path) -> None:
        place.put(files)
        for cache in (True, True, False):
            pack_model(place.url, store, cache=cache)

        assert len(attached_to(store, tags_of(store)["v1"])) == 1

    def test_none_is_attached_when_it_is_not_wanted(self, model: Path, store: Path) -> None:
        pack_model(model, store, provenance=False)

        assert attached_to(store, tags_of(store)["v1"]) == []

    def test_it_does_not_change_the_digest(self, model: Path, store: Path, tmp_path: Path) -> None:
        pack_model(model, store)
        pack_model(model, tmp_path / "other", provenance=False)

        assert tags_of(store) == tags_of(tmp_path / "other")


class TestAnotherRepository:
    """Of the same registry: what is known is mounted there."""

    def test_nothing_is_read_but_headers(
        self, place: Place, there: str, read: Callable[[], int], plain: Registry, repository: str
    ) -> None:
        report = pack_to(place.url, f"{plain.host}/{repository}-other:v1")

        assert (read() < len(OTHER), news(report)) == (True, [])
        assert problems_at(f"{plain.host}/{repository}-other:v1") == {}

    def test_the_digest_is_the_same(self, place: Place, there: str, plain: Registry, repository: str) -> None:
        report = pack_to(place.url, f"{plain.host}/{repository}-other:v1")

        assert report.artifacts[0].digest == pack_to(place.url, there, cache=False).artifacts[0].digest

    def test_a_dry_run_mounts_nothing(self, place: Place, there: str, plain: Registry, repository: str) -> None:
        report = pack_to(place.url, f"{plain.host}/{repository}-other:v1", dry_run=True)

        assert (report.new_size > 0, tagged(f"{plain.host}/{repository}-other:v1")) == (True, False)

    def test_where_a_mount_is_refused_all_is_read_and_sent(
        self, place: Place, there: str, plain: Registry, repository: str
    ) -> None:
        with (
            fault_proxy(plain.host, Fault("mount=", "status", times=1 << 30, status=403)) as proxy,
            open_cache() as cache,
        ):
            for entry in cache.entries():
                cache.keep_place(Digest(entry.digest), proxy.host, repository)
            report = pack_to(place.url, f"{proxy.host}/{repository}-other:v1")

        assert news(report)
        assert problems_at(f"{plain.host}/{repository}-other:v1") == {}


class TestFolder:
    """Files of this machine, which the cache believes once they were left alone for long enough."""

    @pytest.fixture
    def large(self, tmp_path: Path) -> Path:
        """A model of 8 MB."""
        return write_model(tmp_path / "large", shards=4, size=2_000_000)

    def test_a_file_that_has_just_changed_is_not_remembered(self, large: Path, store: Path) -> None:
        pack_model(large, store)
        with open_cache() as cache:
            assert cache.entries() == []

    def test_what_was_left_alone_is_not_read_again(self, large: Path, store: Path) -> None:
        time.sleep(SETTLED_S + 0.1)
        pack_model(large, store)
        by_cache = bytes_read(lambda: pack_model(large, store))
        without = bytes_read(lambda: pack_model(large, store, cache=False))

        assert (by_cache < 2_000_000, without >= 8_000_000) == (True, True)

    def test_one_that_changed_since_is_packed_anew(self, large: Path, store: Path) -> None:
        time.sleep(SETTLED_S + 0.1)
        pack_model(large, store)
        flip(large / SHARD, -1)
        report = pack_model(large, store)

        assert (news(report), problems(store)) == ([SHARD], {})
        assert blob_path(store, layer_of(store, SHARD)).read_bytes().count((large / SHARD).read_bytes()) == 1

    def test_a_card_that_rotted_in_the_store_is_an_error_and_then_mended(self, large: Path, store: Path) -> None:
        time.sleep(SETTLED_S + 0.1)
        pack_model(large, store)
        flip(blob_path(store, layer_of(store, "README.md")), 4096)
        with pytest.raises(DigestMismatch, match=r"README\.md in .*(.|\n)*--no-cache"):
            pack_model(large, store)
        pack_model(large, store, cache=False)

        assert problems(store) == {}


def bytes_read(work: Callable[[], object]) -> int:
    """Return how many bytes this process reads while it works, of whatever."""
    before = _rchar()
    work()
    return _rchar() - before


def _rchar() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])
