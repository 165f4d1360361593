import hashlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl.core.access import SourceAccess
from modelctl.core.errors import (
    BadAnswer,
    ChecksumMismatch,
    Denied,
    Invalid,
    ModelctlError,
    NotFound,
    Unavailable,
    UsageProblem,
)
from modelctl.core.paths import check_paths
from modelctl.core.types import Entry, canonical_json, digest_of
from modelctl.sources.modelscope import ModelScopeSource, open_source
from tests.conformance.sources import FILES, SourceConformance, entry_of, everything, read
from tests.fakes.fault_proxy import Fault, fault_proxy
from tests.fakes.modelscope import ModelScope, model_scope
from tests.models import noise

NAME = "org/model"
TOKEN = "ms-s3cret-t0ken"
OTHER = {**FILES, "model.safetensors": noise(250_000, "other"), "config.json": b'{"other": 1}'}
VARIABLES = ("MODELSCOPE_API_TOKEN", "MODELSCOPE_DOMAIN")


@pytest.fixture(autouse=True)
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelScope]:
    """A hub with one public model, which the environment names, and nobody logged in."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELSCOPE_HOME", str(home / "modelscope"))
    with model_scope() as server:
        server.put(NAME, FILES)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.url)
        yield server


def host_of(url: str) -> str:
    return url.removeprefix("http://")


def entries_of(source: ModelScopeSource) -> list[Entry]:
    return list(source.list(everything))


class TestModelScopeSource(SourceConformance):
    @pytest.fixture
    def source(self) -> ModelScopeSource:
        return open_source(NAME)


class TestWithoutCommits(SourceConformance):
    """A hub that does not say which commit it lists."""

    @pytest.fixture
    def source(self, hub: ModelScope) -> ModelScopeSource:
        hub.commits = False
        return open_source(NAME)


class TestPrivate(SourceConformance):
    @pytest.fixture
    def source(self, hub: ModelScope) -> ModelScopeSource:
        hub.put("org/private", FILES, private=True)
        hub.tokens[TOKEN] = {"org/private"}
        return open_source("org/private", SourceAccess(token=TOKEN))


class TestLocation:
    @pytest.mark.parametrize("location", ["", "model", "org/", "org/model/file", "org/model@", "../model", "org/.."])
    def test_what_names_no_model_is_refused(self, location: str, hub: ModelScope) -> None:
        with pytest.raises(UsageProblem, match="OWNER/NAME"):
            open_source(location)
        assert hub.requests == []

    @pytest.mark.parametrize("endpoint", ["{}", "{}/"])
    def test_the_endpoint_of_the_flag_wins(
        self, hub: ModelScope, monkeypatch: pytest.MonkeyPatch, endpoint: str
    ) -> None:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
        assert open_source(NAME, SourceAccess(endpoint=endpoint.format(hub.url))).name == NAME

    @pytest.mark.parametrize("revision", ["v1", "feature#1?x=%41&Revision=master"])
    def test_a_branch_or_tag_is_resolved_to_its_commit(self, hub: ModelScope, revision: str) -> None:
        commit = hub.commit(NAME, OTHER, revision)
        source = open_source(f"{NAME}@{revision}")
        assert source.origin.revision == commit
        assert read(source, entry_of(source, "config.json")) == OTHER["config.json"]

    def test_a_commit_is_itself(self, hub: ModelScope) -> None:
        old = hub.repositories[NAME].refs["master"]
        hub.commit(NAME, OTHER)
        assert open_source(f"{NAME}@{old}").origin.revision == old

    def test_a_revision_that_is_not_there_is_not_found_though_the_hub_answers(self) -> None:
        with pytest.raises(NotFound, match="no such branch, tag or commit"):
            open_source(f"{NAME}@v9")


class TestListing:
    def test_it_is_what_the_sdk_lists(self, hub: ModelScope) -> None:
        from modelscope_hub import HubApi

        found = HubApi(endpoint=hub.url, token="").list_repo_files(NAME, "model")
        expected = {(row.path, row.size, row.sha256) for row in found if not row.is_dir}
        assert {(row.path, row.size, row.sha256) for row in entries_of(open_source(NAME))} == expected

    def test_10000_files_in_folders_are_all_listed(self, hub: ModelScope) -> None:
        files = {f"{number % 7}/{number % 3}/{number:05}.bin": b"%d" % number for number in range(10_000)}
        hub.put("org/many", files)
        assert {entry.path for entry in entries_of(open_source("org/many"))} == files.keys()

    def test_a_folder_with_more_files_than_the_hub_lists_is_refused_by_name(self, hub: ModelScope) -> None:
        hub.put("org/many", {f"sub/many/{number}": b"x" for number in range(3000)})
        with pytest.raises(Invalid, match="folder 'sub/many' has 3000 files or more"):
            open_source("org/many")

    def test_a_branch_that_moves_while_it_is_listed_does_not_mix(self, hub: ModelScope) -> None:
        hub.on_request = lambda line: "Recursive=True" in line and hub.commit(NAME, OTHER)
        source = open_source(NAME)
        assert {entry.path: read(source, entry) for entry in entries_of(source)} == FILES

    def test_a_refusal_after_the_hub_let_us_in_is_a_mistake_of_its(self, hub: ModelScope) -> None:
        mistaken = Fault("Recursive=True", "status", status=403, body=b"access denied")
        with fault_proxy(host_of(hub.url), mistaken) as proxy:
            assert len(entries_of(open_source(NAME, SourceAccess(endpoint=f"http://{proxy.host}")))) == len(FILES)
        assert proxy.struck

    @pytest.mark.parametrize(
        "body", [b"[", b"[]", b'{"Success": false, "Message": "told to"}', b'{"Data": {"Files": [{"Path": 1}]}}']
    )
    def test_a_listing_that_is_none_is_a_bad_answer(self, hub: ModelScope, body: bytes) -> None:
        with fault_proxy(host_of(hub.url), Fault("/repo/files", "status", status=200, body=body)) as proxy:
            with pytest.raises(BadAnswer, match=f"modelscope://{NAME}"):
                open_source(NAME, SourceAccess(endpoint=f"http://{proxy.host}"))


class TestWithoutACommit:
    @pytest.fixture(autouse=True)
    def silent(self, hub: ModelScope) -> None:
        hub.commits = False

    def test_the_digest_of_the_listing_is_the_revision(self) -> None:
        listed = sorted((path, hashlib.sha256(data).hexdigest()) for path, data in FILES.items())
        assert open_source(NAME).origin.revision == digest_of(canonical_json(listed))

    def test_a_file_that_changed_behind_its_name_is_refused(self, hub: ModelScope) -> None:
        source = open_source(NAME)
        entry = entry_of(source, "model.safetensors")
        hub.commit(NAME, OTHER)
        with pytest.raises(ChecksumMismatch, match=r"model\.safetensors of modelscope://org/model changed.*\n.*sha256"):
            read(source, entry)

    def test_a_small_file_that_changed_its_size_is_refused(self, hub: ModelScope) -> None:
        source = open_source(NAME)
        entry = entry_of(source, "config.json")
        hub.commit(NAME, OTHER)
        with pytest.raises(ChecksumMismatch, match=r"config\.json .* changed.*\n.*it has 12 bytes; 2 were listed"):
            read(source, entry)

    def test_a_listing_that_may_be_cut_short_is_refused(self, hub: ModelScope) -> None:
        hub.put("org/many", {f"{number % 7}/{number}": b"x" for number in range(3000)})
        with pytest.raises(Invalid, match="names no commit, and lists 3000"):
            open_source("org/many")

    def test_a_listing_without_digests_is_refused(self, hub: ModelScope) -> None:
        hub.digests = False
        with pytest.raises(Invalid, match="not all with a sha256"):
            open_source(NAME)


class TestNames:
    @pytest.mark.parametrize("path", ["../up.txt", "/etc/passwd", "", "a\nb", "a/../b", "a//b", "\udce9", ".wh.x"])
    def test_a_name_is_data_and_refused_by_name(self, hub: ModelScope, path: str) -> None:
        hub.put("org/names", {path: b"x", "config.json": b"{}"})
        source = open_source("org/names")
        (entry,) = source.list(lambda found: found != "config.json")
        asked = len(hub.requests)
        assert entry.path == path
        with pytest.raises(Invalid, match="file name"):
            check_paths([entry.path])
        with pytest.raises(Invalid, match="file name"):
            source.open(entry)
        assert len(hub.requests) == asked


class TestWhoMayRead:
    def test_a_private_model_is_listed_and_read_with_the_token_of_the_environment(
        self, hub: ModelScope, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.put("org/private", FILES, private=True)
        hub.tokens[TOKEN] = {"org/private"}
        monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
        source = open_source("org/private")
        assert read(source, entry_of(source, "model.safetensors")) == FILES["model.safetensors"]

    def test_the_login_that_the_sdk_stored_is_found(self, hub: ModelScope) -> None:
        from modelscope_hub.config import HubConfig

        HubConfig(endpoint=hub.url).save_token(TOKEN)
        hub.put("org/private", FILES, private=True)
        hub.tokens[TOKEN] = {"org/private"}
        assert len(entries_of(open_source("org/private"))) == len(FILES)

    def test_a_stored_login_that_cannot_be_read_is_denied(self, home: Path) -> None:
        folder = home / "modelscope" / "credentials"
        folder.mkdir(parents=True)
        (folder / "cookies").write_bytes(b"")
        with pytest.raises(Denied, match="the login that modelscope-hub has"):
            open_source(NAME)

    def test_a_missing_sdk_is_named_with_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "modelscope_hub.config", None)
        with pytest.raises(
            UsageProblem, match=r"modelscope_hub.* is not installed\n.*pip install 'modelctl\[modelscope\]'"
        ):
            open_source(NAME)

    def test_a_stranger_shows_no_token(self, hub: ModelScope, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
        entries_of(open_source(NAME, SourceAccess(credentials=False)))
        assert not any({"authorization", "cookie"} & request.headers.keys() for request in hub.requests)

    @pytest.mark.parametrize(
        ("token", "said"), [("", "no token was found"), (TOKEN, "the token is not of an account that may read it")]
    )
    def test_what_is_not_seen_may_be_private(self, hub: ModelScope, token: str, said: str) -> None:
        hub.put("org/private", FILES, private=True)
        hub.tokens[TOKEN] = set()
        with pytest.raises(NotFound, match=f"no such model, revision or file, or it is private and {said}"):
            open_source("org/private", SourceAccess(token=token))

    def test_a_token_that_is_none_is_denied(self) -> None:
        with pytest.raises(Denied, match=r"invalid or expired.*\n.*MODELSCOPE_API_TOKEN"):
            open_source(NAME, SourceAccess(token=TOKEN))

    def test_a_model_that_is_refused_is_denied(self, hub: ModelScope) -> None:
        with fault_proxy(host_of(hub.url), Fault("/repo/files", "status", status=403)) as proxy:
            with pytest.raises(Denied, match="it answered 403"):
                open_source(NAME, SourceAccess(endpoint=f"http://{proxy.host}"))


class TestSecrets:
    def test_the_token_stays_with_the_hub_and_out_of_logs(
        self, hub: ModelScope, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        caplog.set_level(logging.DEBUG)
        hub.put("org/private", FILES, private=True)
        hub.tokens[TOKEN] = {"org/private"}
        source = open_source("org/private", SourceAccess(token=TOKEN, region="cn-hangzhou"))
        read(source, entry_of(source, "model.safetensors"))
        assert hub.cdn.requests
        secret = {"authorization", "cookie", "x-aliyun-region-id"}
        assert not any(secret & request.headers.keys() for request in hub.cdn.requests)
        assert all(request.headers["cookie"] == f"m_session_id={TOKEN}" for request in hub.requests)
        assert TOKEN not in "".join([caplog.text, *capfd.readouterr(), repr(source.origin)])

    def test_no_error_shows_a_token_or_a_signature(self, hub: ModelScope) -> None:
        hub.tokens[TOKEN] = set()
        source = open_source(NAME, SourceAccess(token=TOKEN, timeout_s=1))
        entry = entry_of(source, "model.safetensors")
        hub.cdn.contents[entry.sha256] = b""
        with pytest.raises(ModelctlError) as caught:
            read(source, entry)
        shown = f"{caught.value}{caught.value.__cause__}"
        assert TOKEN not in shown
        assert "Signature" not in shown

    def test_the_home_is_left_alone(self, home: Path) -> None:
        entries_of(open_source(NAME))
        assert not (home / "modelscope").exists()


class TestReading:
    def test_the_region_is_told_to_the_hub(self, hub: ModelScope) -> None:
        open_source(NAME, SourceAccess(region="cn-hangzhou"))
        assert all(request.headers["x-aliyun-region-id"] == "cn-hangzhou" for request in hub.requests)

    def test_a_file_is_asked_for_once_of_the_hub_and_then_where_it_is(self, hub: ModelScope) -> None:
        source = open_source(NAME)
        entry = entry_of(source, "model.safetensors")
        blob = source.open(entry)
        for at in range(0, 100_000, 10_000):
            blob.read_into(at, memoryview(bytearray(10_000)))
        assert (hub.asked("FilePath="), len(hub.cdn.requests)) == (1, 10)

    def test_an_expired_place_is_asked_for_again(self, hub: ModelScope) -> None:
        hub.cdn.uses = 2
        source = open_source(NAME)
        entry = entry_of(source, "model.safetensors")
        blob, data = source.open(entry), bytearray(entry.size)
        for at in range(0, entry.size, 50_000):
            blob.read_into(at, memoryview(data)[at : at + 50_000])
        assert bytes(data) == FILES["model.safetensors"]
        assert hub.asked("FilePath=") == 4

    @pytest.mark.parametrize(
        "fault",
        [
            Fault("GET /[0-9a-f]{64}", "cut-answer", at=100_000),
            Fault("GET /[0-9a-f]{64}", "stall", at=100_000),
            Fault("GET /[0-9a-f]{64}", "status", status=503, headers={"Retry-After": "0"}, times=2),
            Fault("GET /[0-9a-f]{64}", "status", status=429, headers={"Retry-After": "0"}),
        ],
        ids=lambda fault: fault.kind + str(fault.status),
    )
    def test_a_bad_day_of_the_storage_is_got_over(self, hub: ModelScope, fault: Fault) -> None:
        with fault_proxy(host_of(hub.cdn.url), fault) as proxy:
            hub.cdn.url = f"http://{proxy.host}"
            source = open_source(NAME, SourceAccess(timeout_s=1))
            assert read(source, entry_of(source, "model.safetensors")) == FILES["model.safetensors"]
        assert proxy.struck

    @pytest.mark.parametrize("what", ["Recursive=False", "Recursive=True", "FilePath="])
    @pytest.mark.parametrize(
        "fault",
        [
            Fault("", "status", status=429, headers={"Retry-After": "0"}),
            Fault("", "status", status=502),
            Fault("", "no-answer"),
            Fault("", "cut-answer", at=1),
        ],
        ids=["429", "502", "no-answer", "cut"],
    )
    def test_a_bad_day_of_the_hub_is_got_over(self, hub: ModelScope, fault: Fault, what: str) -> None:
        struck = Fault(what, fault.kind, at=fault.at, status=fault.status, headers=fault.headers)
        with fault_proxy(host_of(hub.url), struck) as proxy:
            source = open_source(NAME, SourceAccess(endpoint=f"http://{proxy.host}"))
            assert read(source, entry_of(source, "README.md")) == FILES["README.md"]
        assert proxy.struck

    def test_a_hub_that_asks_for_an_hour_is_unavailable_at_once(self, hub: ModelScope) -> None:
        busy = Fault("/repo/files", "status", status=429, headers={"Retry-After": "3600"}, times=9)
        with fault_proxy(host_of(hub.url), busy) as proxy, pytest.raises(Unavailable) as caught:
            open_source(NAME, SourceAccess(endpoint=f"http://{proxy.host}"))
        assert (caught.value.retry_after, proxy.struck) == (3600, 1)

    def test_a_file_that_is_gone_is_not_found(self, hub: ModelScope) -> None:
        source = open_source(NAME)
        entry = entry_of(source, "model.safetensors")
        del hub.repositories[NAME].commits[source.revision]["model.safetensors"]
        with pytest.raises(NotFound, match="file not found"):
            read(source, entry)


class TestFake:
    """The fake is a hub to the real SDK too."""

    def test_the_sdk_downloads_from_it(self, hub: ModelScope, tmp_path: Path) -> None:
        from modelscope_hub import HubApi

        api = HubApi(endpoint=hub.url, token="")
        paths = ("model.safetensors", "config.json")
        got = [Path(api.download_file(NAME, "model", path, local_dir=tmp_path)).read_bytes() for path in paths]
        assert got == [FILES[path] for path in paths]
