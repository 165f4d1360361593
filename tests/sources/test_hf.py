import json
import logging
import ssl
import subprocess
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
from modelctl.core.types import Entry
from modelctl.sources.hf import HuggingFaceSource, open_source
from tests.conformance.sources import FILES, SourceConformance, entry_of, everything, read
from tests.fakes.fault_proxy import Fault, fault_proxy, recorder
from tests.fakes.huggingface import HuggingFace, hugging_face
from tests.fakes.registries import make_certificate
from tests.models import noise

NAME = "org/model"
TOKEN = "hf_s3cretTOKENs3cret"
OTHER = {**FILES, "model.safetensors": noise(250_000, "other"), "config.json": b'{"other": 1}', "README.md": b"#"}
VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HF_HUB_OFFLINE")


@pytest.fixture(autouse=True)
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HuggingFace]:
    """A hub with one public model, which the environment names, and nobody logged in."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    with hugging_face() as server:
        server.put(NAME, FILES)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def host_of(url: str) -> str:
    return url.removeprefix("http://")


def entries_of(source: HuggingFaceSource) -> list[Entry]:
    return list(source.list(everything))


class TestHuggingFaceSource(SourceConformance):
    @pytest.fixture
    def source(self) -> HuggingFaceSource:
        return open_source(NAME)


class TestXet(SourceConformance):
    """Files that Xet keeps are read by the plain redirect too."""

    @pytest.fixture
    def source(self, hub: HuggingFace) -> HuggingFaceSource:
        hub.xet = True
        return open_source(NAME)


class TestPrivate(SourceConformance):
    @pytest.fixture
    def source(self, hub: HuggingFace) -> HuggingFaceSource:
        hub.put("org/private", FILES, private=True)
        hub.tokens[TOKEN] = {"org/private"}
        return open_source("org/private", SourceAccess(token=TOKEN))


class TestLocation:
    @pytest.mark.parametrize(
        "location",
        [
            "",
            "/",
            "org/",
            "/model",
            "org/model/file",
            "datasets/org/model",
            "org/model@",
            "../model",
            "org/..",
            "a b",
            "-x",
        ],
    )
    def test_what_names_no_model_is_refused(self, location: str, hub: HuggingFace) -> None:
        with pytest.raises(UsageProblem, match="OWNER/NAME"):
            open_source(location)
        assert hub.requests == []

    def test_an_endpoint_that_is_no_url_is_refused(self) -> None:
        with pytest.raises(UsageProblem, match="expected https://HOST"):
            open_source(NAME, SourceAccess(endpoint="hf-mirror.example"))

    def test_the_endpoint_of_the_flag_wins(self, hub: HuggingFace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        assert open_source(NAME, SourceAccess(endpoint=hub.url + "/")).name == NAME

    def test_an_old_name_without_an_owner_leads_to_the_new_one(self, hub: HuggingFace) -> None:
        hub.renamed["bert"] = NAME
        source = open_source("bert")
        assert source.origin.url == f"hf://{NAME}"
        assert read(source, entry_of(source, "config.json")) == b"{}"

    @pytest.mark.parametrize("revision", ["v1", "refs/pr/1", "feature#1?x=%41"])
    def test_a_branch_or_tag_is_resolved_to_its_commit(self, hub: HuggingFace, revision: str) -> None:
        commit = hub.commit(NAME, OTHER, revision)
        source = open_source(f"{NAME}@{revision}")
        assert source.origin.revision == commit
        assert read(source, entry_of(source, "config.json")) == OTHER["config.json"]

    def test_a_commit_is_itself(self, hub: HuggingFace) -> None:
        old = hub.repositories[NAME].refs["main"]
        hub.commit(NAME, OTHER)
        assert open_source(f"{NAME}@{old}").origin.revision == old


class TestListing:
    def test_it_is_what_the_sdk_lists(self, hub: HuggingFace) -> None:
        from huggingface_hub import HfApi, RepoFile

        hub.page = 2
        api = HfApi(endpoint=hub.url, token=False)
        found = [row for row in api.list_repo_tree(NAME, recursive=True) if isinstance(row, RepoFile)]
        expected = {
            (row.path, row.size, row.lfs.sha256 if row.lfs else "", "" if row.lfs else row.blob_id) for row in found
        }
        assert {(row.path, row.size, row.sha256, row.git_sha1) for row in entries_of(open_source(NAME))} == expected

    def test_10000_files_come_a_page_at_a_time(self, hub: HuggingFace) -> None:
        hub.put("org/many", {f"shards/{number:05}.bin": b"%d" % number for number in range(10_000)})
        assert len(entries_of(open_source("org/many"))) == 10_000
        assert hub.asked("/tree/") == 11

    def test_links_of_a_mirror_to_the_hub_itself_are_asked_of_the_mirror(self, hub: HuggingFace) -> None:
        hub.page = 2
        hub.tokens[TOKEN] = set()
        with recorder() as elsewhere:
            hub.links_to = f"http://{elsewhere.host}"
            assert len(entries_of(open_source(NAME, SourceAccess(token=TOKEN)))) == len(FILES)
        assert elsewhere.requests == []

    def test_pages_without_end_are_refused(self, hub: HuggingFace) -> None:
        link = f'<{hub.url}/x?recursive=true&cursor=MA%3D%3D>; rel="next"'
        endless = Fault("/tree/", "status", times=99, status=200, headers={"Link": link}, body=b"[]")
        with fault_proxy(host_of(hub.url), endless) as proxy, pytest.raises(BadAnswer, match="pages without end"):
            entries_of(open_source(NAME, SourceAccess(endpoint=f"http://{proxy.host}")))

    def test_a_branch_that_moves_between_two_pages_does_not_mix(self, hub: HuggingFace) -> None:
        hub.page = 2
        hub.on_request = lambda line: "cursor" in line and hub.commit(NAME, OTHER)
        source = open_source(NAME)
        assert {entry.path: read(source, entry) for entry in entries_of(source)} == FILES

    def test_a_branch_that_moves_before_the_tree_is_listed_does_not_mix(self, hub: HuggingFace) -> None:
        hub.on_request = lambda line: "/tree/" in line and hub.commit(NAME, OTHER)
        source = open_source(NAME)
        assert {entry.path: read(source, entry) for entry in entries_of(source)} == FILES

    def test_a_files_version_outlives_a_commit_that_leaves_it_alone(self, hub: HuggingFace) -> None:
        before = entry_of(open_source(NAME), "model.safetensors")
        hub.commit(NAME, FILES | {"README.md": b"# Another"})
        assert entry_of(open_source(NAME), "model.safetensors") == before

    @pytest.mark.parametrize("body", [b"[", b"{}", b'[{"type":"file","path":1}]', b"[" * 100_000, b"\xff"])
    def test_a_listing_that_is_none_is_a_bad_answer(self, hub: HuggingFace, body: bytes) -> None:
        with fault_proxy(host_of(hub.url), Fault("/tree/", "status", status=200, body=body)) as proxy:
            with pytest.raises(BadAnswer, match="/tree/"):
                entries_of(open_source(NAME, SourceAccess(endpoint=f"http://{proxy.host}")))


class TestNames:
    @pytest.mark.parametrize("path", ["../up.txt", "/etc/passwd", "", "a\nb", "a/../b", "a//b", "\udce9", ".wh.x"])
    def test_a_name_is_data_and_refused_by_name(self, hub: HuggingFace, path: str) -> None:
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
        self, hub: HuggingFace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.put("org/private", FILES, private=True)
        hub.tokens[TOKEN] = {"org/private"}
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        source = open_source("org/private")
        assert read(source, entry_of(source, "model.safetensors")) == FILES["model.safetensors"]

    def test_a_missing_sdk_is_named_with_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(UsageProblem, match=r"huggingface_hub is not installed\n.*pip install 'modelctl\[hf\]'"):
            open_source(NAME)

    def test_a_stranger_shows_no_token(self, hub: HuggingFace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        entries_of(open_source(NAME, SourceAccess(credentials=False)))
        assert not any("authorization" in request.headers for request in hub.requests)

    def test_what_a_stranger_may_not_see_may_be_private(self, hub: HuggingFace) -> None:
        hub.put("org/private", FILES, private=True)
        with pytest.raises(Denied, match=r"no such model, or it is private and no token was found\n.*HF_TOKEN"):
            open_source("org/private")

    def test_what_a_token_does_not_open_may_be_private(self, hub: HuggingFace) -> None:
        hub.tokens[TOKEN] = set()
        with pytest.raises(NotFound, match="no such model, or it is private and the token is not of an account"):
            open_source("org/missing", SourceAccess(token=TOKEN))

    def test_a_token_that_is_none_is_denied(self, hub: HuggingFace) -> None:
        with pytest.raises(Denied, match=r"Invalid credentials.*\n.*/settings/tokens"):
            open_source(NAME, SourceAccess(token=TOKEN))

    @pytest.mark.parametrize("token", ["a\nb", "h\u00e9"])
    def test_a_token_that_fits_no_header_is_denied_without_showing_it(self, token: str) -> None:
        with pytest.raises(Denied, match="no token has") as caught:
            open_source(NAME, SourceAccess(token=token))
        assert token not in str(caught.value)

    @pytest.mark.parametrize(("token", "hint"), [("", "HF_TOKEN"), (TOKEN, "accept the terms at")])
    def test_a_gated_model_says_where_its_terms_are(self, hub: HuggingFace, token: str, hint: str) -> None:
        hub.put("org/gated", FILES, gated=True)
        hub.tokens[TOKEN] = set()
        source = open_source("org/gated", SourceAccess(token=token))
        with pytest.raises(Denied, match=rf"is restricted.*\n.*accept the terms at {hub.url}/org/gated") as caught:
            read(source, entry_of(source, "model.safetensors"))
        assert hint in caught.value.hint

    def test_a_gated_model_is_read_by_who_accepted(self, hub: HuggingFace) -> None:
        hub.put("org/gated", FILES, gated=True)
        hub.tokens[TOKEN] = {"org/gated"}
        source = open_source("org/gated", SourceAccess(token=TOKEN))
        assert read(source, entry_of(source, "config.json")) == b"{}"

    def test_a_revision_that_is_not_there_is_not_found(self) -> None:
        with pytest.raises(NotFound, match=r"org/model@v9\n.*Invalid rev id: v9"):
            open_source(f"{NAME}@v9")

    def test_the_token_of_hf_auth_login_is_found(self, hub: HuggingFace, home: Path) -> None:
        hub.put("org/private", FILES, private=True)
        hub.tokens[TOKEN] = {"org/private"}
        (home / "hf").mkdir()
        (home / "hf" / "token").write_text(TOKEN + "\n")
        program = "from modelctl.sources import open_source; print(open_source('hf://org/private').origin.revision)"
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert ended.stdout.strip() == hub.repositories["org/private"].refs["main"]


class TestSecrets:
    def test_the_token_stays_with_the_hub_and_out_of_logs(
        self, hub: HuggingFace, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        caplog.set_level(logging.DEBUG)
        hub.put("org/private", FILES, private=True)
        hub.tokens[TOKEN] = {"org/private"}
        source = open_source("org/private", SourceAccess(token=TOKEN))
        read(source, entry_of(source, "model.safetensors"))
        assert hub.cdn.requests
        assert not any({"authorization", "cookie"} & request.headers.keys() for request in hub.cdn.requests)
        assert all(request.headers["authorization"] == f"Bearer {TOKEN}" for request in hub.requests)
        assert TOKEN not in "".join([caplog.text, *capfd.readouterr(), repr(source.origin)])

    def test_no_error_shows_a_token_or_a_signature(self, hub: HuggingFace) -> None:
        hub.tokens[TOKEN] = set()
        source = open_source(NAME, SourceAccess(token=TOKEN, timeout_s=1))
        entry = entry_of(source, "model.safetensors")
        hub.cdn.uses = 0
        with pytest.raises(ModelctlError) as caught:
            read(source, entry)
        shown = f"{caught.value}{caught.value.__cause__}"
        assert TOKEN not in shown
        assert "Signature" not in shown

    def test_a_redirect_that_leaves_tls_is_refused(self, hub: HuggingFace) -> None:
        away = Fault("/tree/", "status", status=302, headers={"Location": "ftp://elsewhere/x"})
        with fault_proxy(host_of(hub.url), away) as proxy, pytest.raises(BadAnswer, match="ftp://elsewhere/x"):
            entries_of(open_source(NAME, SourceAccess(endpoint=f"http://{proxy.host}")))

    def test_over_tls_a_redirect_to_plain_http_is_refused(self, hub: HuggingFace, tmp_path: Path) -> None:
        certificate = make_certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, tmp_path / "tls.key")
        with fault_proxy(host_of(hub.url), tls=context) as proxy:
            source = open_source(NAME, SourceAccess(endpoint=f"https://{proxy.host}", ca_file=str(certificate)))
            with pytest.raises(BadAnswer, match=r"it redirects from https://.* to http://"):
                read(source, entry_of(source, "model.safetensors"))

    def test_redirects_without_end_are_refused(self, hub: HuggingFace) -> None:
        around = Fault("/tree/", "redirect", times=99, headers={"Location": "?again"})
        with fault_proxy(host_of(hub.url), around) as proxy, pytest.raises(BadAnswer, match="redirects without end"):
            entries_of(open_source(NAME, SourceAccess(endpoint=f"http://{proxy.host}")))


class TestReading:
    def test_a_file_is_asked_for_once_of_the_hub_and_then_where_it_is(self, hub: HuggingFace) -> None:
        source = open_source(NAME)
        entry = entry_of(source, "model.safetensors")
        blob = source.open(entry)
        for at in range(0, 100_000, 10_000):
            blob.read_into(at, memoryview(bytearray(10_000)))
        assert (hub.asked("/resolve/"), len(hub.cdn.requests)) == (1, 10)

    def test_every_request_to_the_cdn_has_a_range(self, hub: HuggingFace) -> None:
        source = open_source(NAME)
        read(source, entry_of(source, "model.safetensors"))
        assert all("range" in request.headers for request in hub.cdn.requests)

    def test_an_expired_place_is_asked_for_again(self, hub: HuggingFace) -> None:
        hub.cdn.uses = 2
        source = open_source(NAME)
        entry = entry_of(source, "model.safetensors")
        blob, data = source.open(entry), bytearray(entry.size)
        for at in range(0, entry.size, 50_000):
            blob.read_into(at, memoryview(data)[at : at + 50_000])
        assert bytes(data) == FILES["model.safetensors"]
        assert hub.asked("/resolve/") == 4

    def test_an_empty_file_needs_no_request(self, hub: HuggingFace) -> None:
        source = open_source(NAME)
        entry = entry_of(source, "empty.txt")
        asked = len(hub.requests)
        assert read(source, entry) == b""
        assert len(hub.requests) == asked

    @pytest.mark.parametrize(
        "fault",
        [
            Fault("GET /[0-9a-f]{64}", "cut-answer", at=100_000),
            Fault("GET /[0-9a-f]{64}", "stall", at=100_000),
            Fault("GET /[0-9a-f]{64}", "status", status=503, headers={"Retry-After": "0"}, times=2),
            Fault("GET /[0-9a-f]{64}", "status", status=429, headers={"Retry-After": "0"}),
            Fault("GET /[0-9a-f]{64}", "no-answer"),
        ],
        ids=lambda fault: fault.kind + str(fault.status),
    )
    def test_a_bad_day_of_the_cdn_is_got_over(self, hub: HuggingFace, fault: Fault) -> None:
        with fault_proxy(host_of(hub.cdn.url), fault) as proxy:
            hub.cdn.url = f"http://{proxy.host}"
            source = open_source(NAME, SourceAccess(timeout_s=1))
            assert read(source, entry_of(source, "model.safetensors")) == FILES["model.safetensors"]
        assert proxy.struck

    def test_what_broke_off_is_gone_on_with_where_it_was(self, hub: HuggingFace) -> None:
        with fault_proxy(host_of(hub.cdn.url), Fault("GET /[0-9a-f]{64}", "cut-answer", at=100_000)) as proxy:
            hub.cdn.url = f"http://{proxy.host}"
            source = open_source(NAME)
            read(source, entry_of(source, "model.safetensors"))
        assert [int(found.removeprefix("bytes=").partition("-")[0]) > 0 for found in proxy.ranges] == [False, True]

    @pytest.mark.parametrize("what", ["/revision/", "/tree/", "/resolve/", "/resolve-cache/"])
    @pytest.mark.parametrize(
        "fault",
        [
            Fault("", "status", status=429, headers={"Retry-After": "0"}),
            Fault("", "status", status=429, headers={"RateLimit": '"api";r=0;t=0'}),
            Fault("", "status", status=502),
            Fault("", "no-answer"),
            Fault("", "cut-answer", at=1),
        ],
        ids=["Retry-After", "RateLimit", "502", "no-answer", "cut"],
    )
    def test_a_bad_day_of_the_hub_is_got_over(self, hub: HuggingFace, fault: Fault, what: str) -> None:
        struck = Fault(what, fault.kind, at=fault.at, status=fault.status, headers=fault.headers)
        with fault_proxy(host_of(hub.url), struck) as proxy:
            source = open_source(NAME, SourceAccess(endpoint=f"http://{proxy.host}"))
            assert read(source, entry_of(source, "README.md")) == FILES["README.md"]
        assert proxy.struck

    def test_a_hub_that_asks_for_an_hour_is_unavailable_at_once(self, hub: HuggingFace) -> None:
        busy = Fault("/revision/", "status", status=429, headers={"RateLimit": '"api";r=0;t=3600'}, times=9)
        with fault_proxy(host_of(hub.url), busy) as proxy, pytest.raises(Unavailable) as caught:
            open_source(NAME, SourceAccess(endpoint=f"http://{proxy.host}"))
        assert (caught.value.retry_after, proxy.struck) == (3600, 1)

    def test_a_slow_hub_is_waited_for(self, hub: HuggingFace) -> None:
        hub.latency_s = hub.cdn.latency_s = 0.05
        source = open_source(NAME, SourceAccess(timeout_s=1))
        assert read(source, entry_of(source, "model.safetensors")) == FILES["model.safetensors"]


class TestChanges:
    """A commit does not change; a hub, a mirror or a CDN may serve something else all the same."""

    @pytest.mark.parametrize("path", ["model.safetensors", "config.json", "README.md"])
    def test_a_file_of_another_size_is_refused(self, hub: HuggingFace, path: str) -> None:
        source = open_source(NAME)
        entry = entry_of(source, path)
        hub.repositories[NAME].commits[source.commit] = hub.repositories[NAME].commits[hub.commit(NAME, OTHER)]
        with pytest.raises(ChecksumMismatch, match=f"{path} of hf://{NAME} changed"):
            read(source, entry)

    def test_a_file_of_the_same_size_is_refused_by_what_the_hub_says_of_it(self, hub: HuggingFace) -> None:
        source = open_source(NAME)
        entry = entry_of(source, "model.safetensors")
        commit = hub.commit(NAME, FILES | {"model.safetensors": noise(entry.size, "same size")})
        hub.repositories[NAME].commits[source.commit] = hub.repositories[NAME].commits[commit]
        with pytest.raises(ChecksumMismatch, match="X-Linked-ETag"):
            read(source, entry)

    def test_another_file_at_the_cdn_is_refused_by_its_size(self, hub: HuggingFace) -> None:
        source = open_source(NAME)
        entry = entry_of(source, "model.safetensors")
        hub.cdn.contents[entry.sha256] = b"less"
        with pytest.raises(BadAnswer, match="bytes 0-3/4"):
            read(source, entry)

    def test_a_file_of_another_commit_is_refused(self, hub: HuggingFace) -> None:
        source = open_source(NAME)
        commits = hub.repositories[NAME].commits
        wrong = Fault("/resolve/", "status", status=307, headers={"X-Repo-Commit": "0" * 40, "Location": "/x"})
        with fault_proxy(host_of(hub.url), wrong) as proxy:
            source = open_source(NAME, SourceAccess(endpoint=f"http://{proxy.host}"))
            with pytest.raises(
                ChecksumMismatch, match=f"X-Repo-Commit is {'0' * 40}; {next(iter(commits))} was listed"
            ):
                read(source, entry_of(source, "config.json"))

    def test_a_file_that_is_gone_is_not_found(self, hub: HuggingFace) -> None:
        source = open_source(NAME)
        entry = entry_of(source, "model.safetensors")
        del hub.repositories[NAME].commits[source.commit]["model.safetensors"]
        with pytest.raises(NotFound, match="Entry not found"):
            read(source, entry)


class TestFake:
    """The fake is a hub to the real SDK too."""

    def test_the_sdk_downloads_from_it(self, hub: HuggingFace, tmp_path: Path) -> None:
        from huggingface_hub import hf_hub_download

        kept = {"repo_id": NAME, "endpoint": hub.url, "cache_dir": tmp_path, "token": False}
        paths = [Path(hf_hub_download(filename=name, **kept)) for name in ("model.safetensors", "config.json")]
        assert [path.read_bytes() for path in paths] == [FILES["model.safetensors"], FILES["config.json"]]

    def test_the_sdk_tells_a_gated_model_from_one_that_is_not_there(self, hub: HuggingFace) -> None:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

        hub.put("org/gated", FILES, gated=True)
        api = HfApi(endpoint=hub.url, token=False)
        with pytest.raises(GatedRepoError):
            api.get_hf_file_metadata(url=f"{hub.url}/org/gated/resolve/main/config.json")
        with pytest.raises(RevisionNotFoundError):
            api.model_info(NAME, revision="v9")


def test_nothing_of_the_sdk_is_imported_for_other_sources(tmp_path: Path) -> None:
    program = (
        "import sys, json; from modelctl.sources import open_source; open_source(sys.argv[1]);"
        "print(json.dumps([name for name in sys.modules if name.partition('.')[0] in sys.argv[2:]]))"
    )
    sdks = ("huggingface_hub", "modelscope_hub", "httpx2", "requests", "oss2", "urllib3")
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path), *sdks], capture_output=True, check=True)
    assert json.loads(ended.stdout) == []
