import functools
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import oss2
import pytest

from modelctl.core.access import SourceAccess
from modelctl.core.aliyun import FOLDER, METADATA
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
from modelctl.core.retry import ATTEMPTS
from modelctl.core.types import Entry
from modelctl.sources.oss import OssSource, open_source, region_of
from tests.conformance.sources import FILES, WEIGHTS, SourceConformance, entry_of, everything, read
from tests.fakes.aliyun import ROLE, Aliyun, aliyun
from tests.fakes.fault_proxy import Fault as Strike
from tests.fakes.fault_proxy import fault_proxy, recorder
from tests.fakes.forward_proxy import forward_proxy
from tests.fakes.oss import KEY_ID, SECRET, Fault, Oss, oss
from tests.fakes.oss_signatures import REGION, Key
from tests.models import noise

BUCKET = "models-poc"
LOCATION = f"{BUCKET}/qwen3/v1"


@pytest.fixture
def server() -> Iterator[Oss]:
    """A bucket with one model, a folder marker for each of its folders, and another model beside it."""
    with oss() as server:
        for path, data in FILES.items():
            server.put(BUCKET, f"qwen3/v1/{path}", data)
        server.put(BUCKET, "qwen3/v1/", b"")
        server.put(BUCKET, "qwen3/v1/sub/", b"")
        server.put(BUCKET, "qwen3/v10/other.txt", b"other")
        yield server


@pytest.fixture(autouse=True)
def environment(server: Oss, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that names the bucket's service and a key."""
    for name in [name for name in os.environ if name.startswith(("OSS_", "ALIBABA_CLOUD_", "MODELCTL_OSS"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("OSS_ENDPOINT", server.url)
    monkeypatch.setenv("OSS_REGION", REGION)
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", SECRET)
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")


@pytest.fixture
def source() -> OssSource:
    return open_source(LOCATION)


def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSS_ACCESS_KEY_ID")
    monkeypatch.delenv("OSS_ACCESS_KEY_SECRET")


@pytest.fixture
def role(server: Oss, environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aliyun]:
    """A service that gives temporary keys of a role, and an environment that names it and no key."""
    without_keys(monkeypatch)
    with aliyun(server) as cloud:
        monkeypatch.setenv(METADATA, cloud.url)
        monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA", ROLE)
        yield cloud


def paths_of(source: OssSource) -> list[str]:
    return [entry.path for entry in source.list(everything)]


def weights_of(source: OssSource) -> Entry:
    return entry_of(source, "model.safetensors")


class TestOssSource(SourceConformance):
    @pytest.fixture
    def source(self) -> OssSource:
        return open_source(LOCATION)


class TestV1(SourceConformance):
    @pytest.fixture
    def source(self, monkeypatch: pytest.MonkeyPatch) -> OssSource:
        monkeypatch.delenv("OSS_REGION")
        return open_source(LOCATION)


class TestStranger(SourceConformance):
    @pytest.fixture
    def source(self, server: Oss) -> OssSource:
        server.public = {BUCKET}
        return open_source(LOCATION, SourceAccess(credentials=False))


class TestLocation:
    @pytest.mark.parametrize("location", [LOCATION, f"{LOCATION}/", f"{BUCKET}//qwen3/v1/"])
    def test_a_prefix_is_a_folder(self, location: str) -> None:
        source = open_source(location)
        assert (paths_of(source), source.origin.url) == (sorted(FILES), f"oss://{LOCATION}/")

    def test_a_whole_bucket_is_a_model_too(self) -> None:
        assert "qwen3/v1/config.json" in paths_of(open_source(BUCKET))

    def test_a_prefix_with_nothing_below_is_empty(self) -> None:
        assert paths_of(open_source(f"{BUCKET}/qwen3/v")) == []

    @pytest.mark.parametrize("location", ["", "/x", "ab", "Models/x", "a_b_c/x", "key:s3cret@models/x"])
    def test_what_is_no_bucket_is_refused_without_quoting_it(self, location: str) -> None:
        with pytest.raises(UsageProblem, match="names no bucket") as error:
            open_source(location)
        assert "s3cret" not in str(error.value)

    def test_without_an_endpoint_it_cannot_be_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OSS_ENDPOINT")
        monkeypatch.delenv("OSS_REGION")
        with pytest.raises(UsageProblem, match="--endpoint oss-cn-hangzhou"):
            open_source(LOCATION)

    def test_a_prefix_that_is_not_utf_8_is_refused(self, server: Oss) -> None:
        with pytest.raises(UsageProblem, match=r"'qwen3/\\udcff'\n.*not UTF-8"):
            open_source(f"{BUCKET}/qwen3/\udcff")
        assert server.requests == []

    @pytest.mark.parametrize("region", ["", REGION])
    def test_an_endpoint_that_is_no_url_is_refused(self, monkeypatch: pytest.MonkeyPatch, region: str) -> None:
        monkeypatch.setenv("OSS_REGION", region)
        with pytest.raises(UsageProblem, match=r"the endpoint\n.*not a URL"):
            open_source(LOCATION, SourceAccess(endpoint="http://[::1"))

    @pytest.mark.parametrize("endpoint", ["https://", "http://a b", "https://user:s3cret@"])
    def test_an_endpoint_that_is_none_is_refused(self, endpoint: str) -> None:
        with pytest.raises(ModelctlError) as error:
            paths_of(open_source(LOCATION, SourceAccess(endpoint=endpoint)))
        assert "s3cret" not in str(error.value)

    @pytest.mark.parametrize(
        ("endpoint", "region"),
        [
            ("oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
            ("https://oss-cn-hangzhou-internal.aliyuncs.com", "cn-hangzhou"),
            ("http://oss-cn-shanghai-finance-1-internal.aliyuncs.com:80", "cn-shanghai-finance-1"),
            ("oss-ap-southeast-1.aliyuncs.com/", "ap-southeast-1"),
            ("oss-accelerate.aliyuncs.com", ""),
            ("oss-accelerate-overseas.aliyuncs.com", ""),
            ("oss-cn-hangzhou.aliyuncs.com.example.com", ""),
            ("127.0.0.1:9000", ""),
            ("", ""),
        ],
    )
    def test_an_endpoint_tells_its_region(self, endpoint: str, region: str) -> None:
        assert region_of(endpoint) == region

    @pytest.mark.parametrize("suffix", ["", "-internal"])
    def test_a_bucket_is_a_host_of_its_own(self, server: Oss, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
        monkeypatch.delenv("OSS_REGION")
        with forward_proxy(server.url.removeprefix("http://")) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            source = open_source(LOCATION, SourceAccess(endpoint=f"http://oss-{REGION}{suffix}.aliyuncs.com"))
            assert read(source, weights_of(source)) == WEIGHTS
        assert set(server.hosts) == {f"{BUCKET}.oss-{REGION}{suffix}.aliyuncs.com"}
        assert set(server.versions) == {4}

    def test_a_region_has_a_public_endpoint_where_nobody_may_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OSS_ENDPOINT")
        with forward_proxy("127.0.0.1:1") as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            with pytest.raises(Unavailable, match=rf"OSS https://oss-{REGION}\.aliyuncs\.com"):
                paths_of(open_source(LOCATION))
            assert proxy.requests[0] == f"CONNECT {BUCKET}.oss-{REGION}.aliyuncs.com:443"


class TestListing:
    def test_folder_markers_are_no_files_and_empty_files_are(self, source: OssSource) -> None:
        assert {entry.path: entry.size for entry in source.list(everything)} == {
            path: len(data) for path, data in FILES.items()
        }

    def test_10000_objects_come_in_10_pages(self, server: Oss) -> None:
        names = [f"{number:05}.json" for number in range(10_000)]
        server.buckets["big-bucket"] = dict.fromkeys(names, server.buckets[BUCKET]["qwen3/v1/config.json"])
        assert paths_of(open_source("big-bucket")) == names
        assert len(server.requests) == 10

    def test_pages_are_signed_by_v1_too(self, server: Oss, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OSS_REGION")
        names = [f"{number:04}" for number in range(2500)]
        server.buckets["big-bucket"] = dict.fromkeys(names, server.buckets[BUCKET]["qwen3/v1/config.json"])
        assert paths_of(open_source("big-bucket")) == names
        assert server.versions == [1, 1, 1]

    @pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/", "a\nb", "a\x01b", "a\\b", ".", "..", "a/./b"])
    def test_names_are_data_and_refused_by_name(self, server: Oss, name: str) -> None:
        server.put("bad-names", name, b"x")
        (entry,) = open_source("bad-names").list(everything)
        assert entry.path == name
        with pytest.raises(Invalid, match="file name"):
            check_paths([entry.path])

    def test_names_that_clash_are_refused_with_both(self, server: Oss) -> None:
        server.put("bad-names", "a", b"x")
        server.put("bad-names", "A", b"x")
        with pytest.raises(Invalid, match="file names 'A' and 'a'"):
            check_paths(paths_of(open_source("bad-names")))

    def test_a_symlink_of_oss_is_refused_by_name(self, server: Oss, source: OssSource) -> None:
        server.put(BUCKET, "qwen3/v1/link", b"", kind="Symlink")
        with pytest.raises(Invalid, match=r"'link'\n.*symlink"):
            paths_of(source)

    def test_an_unwanted_symlink_is_no_trouble(self, server: Oss, source: OssSource) -> None:
        server.put(BUCKET, "qwen3/v1/link", b"", kind="Symlink")
        assert len(list(source.list(lambda path: path != "link"))) == len(FILES)

    def test_no_content_is_asked_for(self, server: Oss, source: OssSource) -> None:
        list(source.list(everything))
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "body", [b"", b"<html>", b"<a/>", b"<ListBucketResult><IsTruncated>x</IsTruncated></ListBucketResult>"]
    )
    def test_what_is_no_listing_is_a_bad_answer(self, body: bytes) -> None:
        with recorder(200, body=body) as other, pytest.raises(BadAnswer, match="answered what OSS does not"):
            paths_of(open_source(LOCATION, SourceAccess(endpoint=f"http://{other.host}")))

    def test_a_listing_that_goes_round_is_a_bad_answer(self) -> None:
        more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"
        body = b"<ListBucketResult>" + more + b"</ListBucketResult>"
        with recorder(200, body=body) as other, pytest.raises(BadAnswer, match="no end"):
            paths_of(open_source(LOCATION, SourceAccess(endpoint=f"http://{other.host}")))


class TestReading:
    def test_each_read_is_one_signed_request(self, server: Oss, source: OssSource) -> None:
        entry = weights_of(source)
        assert read(source, entry) == WEIGHTS
        assert (len(server.gets()), server.sent, set(server.versions)) == (1, len(WEIGHTS), {4})

    def test_a_cut_goes_on_from_there(self, server: Oss, source: OssSource) -> None:
        server.faults = [Fault("model.safetensors bytes", cut=100_000), Fault("model.safetensors bytes", cut=1)]
        assert read(source, weights_of(source)) == WEIGHTS
        assert server.sent == len(WEIGHTS)

    def test_throttling_is_waited_out(self, server: Oss, source: OssSource) -> None:
        entry = weights_of(source)
        wait = {"Retry-After": "0"}
        server.faults = [Fault(status=503, code="DownloadTrafficRateLimitExceeded", headers=wait, times=ATTEMPTS - 1)]
        assert read(source, entry) == WEIGHTS
        assert len(server.gets()) == ATTEMPTS

    def test_throttling_without_end_is_unavailable(self, server: Oss, source: OssSource) -> None:
        entry = weights_of(source)
        server.faults = [Fault(status=503, code="SlowDown", headers={"Retry-After": "0"}, times=99)]
        with pytest.raises(Unavailable, match="OSS answered 503 SlowDown: told to"):
            read(source, entry)

    def test_a_stall_goes_on_from_there(self, server: Oss) -> None:
        source = open_source(LOCATION, SourceAccess(timeout_s=0.5))
        entry = weights_of(source)
        server.faults = [Fault(stall=290_000)]
        assert read(source, entry) == WEIGHTS
        assert server.sent <= len(WEIGHTS) + (256 << 10)

    def test_an_object_that_changed_since_it_was_listed_is_refused(self, server: Oss, source: OssSource) -> None:
        entry = weights_of(source)
        server.put(BUCKET, "qwen3/v1/model.safetensors", noise(len(WEIGHTS), "other"))
        with pytest.raises(ChecksumMismatch, match=r"model\.safetensors changed while it was read\n.*412 Precondition"):
            read(source, entry)
        assert server.sent == 0

    def test_an_object_that_changes_while_it_is_read_is_never_mixed(self, server: Oss, source: OssSource) -> None:
        entry = weights_of(source)
        other = noise(len(WEIGHTS), "other")
        change = functools.partial(server.put, BUCKET, "qwen3/v1/model.safetensors", other)
        server.faults = [Fault("bytes=0-", cut=1000), Fault("bytes=1000-", before=change)]
        with pytest.raises(ChecksumMismatch, match="changed while it was read"):
            read(source, entry)

    def test_an_object_that_is_gone_has_changed(self, server: Oss, source: OssSource) -> None:
        entry = weights_of(source)
        del server.buckets[BUCKET]["qwen3/v1/model.safetensors"]
        with pytest.raises(ChecksumMismatch, match="404 NoSuchKey"):
            read(source, entry)

    @pytest.mark.parametrize("kind", ["whole", "wrong-range", "short", "redirect"])
    def test_any_other_range_is_a_bad_answer(self, server: Oss, kind: str) -> None:
        strike = Strike("^GET /models-poc/qwen3", kind, at=5, headers={"Location": "/x"})  # type: ignore[arg-type]
        with fault_proxy(server.url.removeprefix("http://"), strike) as proxy:
            source = open_source(LOCATION, SourceAccess(endpoint=f"http://{proxy.host}"))
            with pytest.raises(BadAnswer, match=r"model\.safetensors"):
                read(source, weights_of(source))

    def test_a_server_that_does_not_heed_if_match_is_found_out(self, source: OssSource) -> None:
        entry = entry_of(source, "config.json")
        headers = {"Content-Range": "bytes 0-1/2", "ETag": '"ANOTHER"'}
        with recorder(206, headers=headers, body=b"[]") as other:
            elsewhere = open_source(LOCATION, SourceAccess(endpoint=f"http://{other.host}"))
            with pytest.raises(ChecksumMismatch, match=r"config\.json changed.*\n.*the answer's is ANOTHER"):
                read(elsewhere, entry)

    def test_an_answer_may_have_no_etag(self, source: OssSource) -> None:
        entry = entry_of(source, "config.json")
        with recorder(206, headers={"Content-Range": "bytes 0-1/2"}, body=b"[]") as other:
            elsewhere = open_source(LOCATION, SourceAccess(endpoint=f"http://{other.host}"))
            assert read(elsewhere, entry) == b"[]"

    def test_a_content_range_that_is_none_is_a_bad_answer(self, source: OssSource) -> None:
        entry = weights_of(source)
        with recorder(206, headers={"Content-Range": "bytes none"}, body=b"x") as other:
            elsewhere = open_source(LOCATION, SourceAccess(endpoint=f"http://{other.host}"))
            with pytest.raises(BadAnswer):
                read(elsewhere, entry)


class TestChecking:
    def test_it_states_the_crc64_that_oss_has(self, server: Oss, source: OssSource) -> None:
        assert source.check(weights_of(source)).crc64 == server.buckets[BUCKET]["qwen3/v1/model.safetensors"].crc64

    def test_an_object_that_was_put_again_is_another_version(self, server: Oss, source: OssSource) -> None:
        entry = entry_of(source, "config.json")
        server.put(BUCKET, "qwen3/v1/config.json", b"[]")
        with pytest.raises(ChecksumMismatch, match=r"config\.json changed.*\n.*listed with 2 bytes and ETag"):
            source.check(entry)

    def test_an_object_that_is_gone_is_too(self, server: Oss, source: OssSource) -> None:
        entry = entry_of(source, "config.json")
        del server.buckets[BUCKET]["qwen3/v1/config.json"]
        with pytest.raises(ChecksumMismatch, match="404 NoSuchKey"):
            source.check(entry)

    @pytest.mark.parametrize("stated", ["\u00b2", "1" * 5000, "-1", ""])
    def test_a_crc64_that_is_none_is_not_stated(self, source: OssSource, stated: str) -> None:
        entry = entry_of(source, "config.json")
        headers = {"ETag": f'"{entry.version}"', "Content-Length": "2", "x-oss-hash-crc64ecma": stated}
        with recorder(200, headers=headers) as other:
            assert open_source(LOCATION, SourceAccess(endpoint=f"http://{other.host}")).check(entry).crc64 is None

    def test_it_is_asked_again_while_oss_is_busy(self, server: Oss, source: OssSource) -> None:
        entry = entry_of(source, "config.json")
        server.faults = [Fault("HEAD", status=503, headers={"Retry-After": "0"}, times=2)]
        assert source.check(entry).version == entry.version


class TestProblems:
    def test_a_bucket_that_is_not_there_is_not_found(self) -> None:
        with pytest.raises(NotFound, match=r"bucket no-such-bucket\n.*404 NoSuchBucket.*\n.*its region"):
            paths_of(open_source("no-such-bucket"))

    def test_an_archived_object_says_what_to_do(self, server: Oss, source: OssSource) -> None:
        server.put(BUCKET, "qwen3/v1/old.bin", b"x", storage="Archive")
        with pytest.raises(Denied, match=r"old\.bin\n.*403 InvalidObjectState.*\n.*restore it"):
            read(source, entry_of(source, "old.bin"))

    def test_another_regions_bucket_says_which_endpoint(self, server: Oss, source: OssSource) -> None:
        extra = "<Endpoint>oss-cn-beijing.aliyuncs.com</Endpoint>"
        server.faults = [Fault(status=403, code="AccessDenied", message="must be addressed so", extra=extra)]
        with pytest.raises(Denied, match=r"try: --endpoint oss-cn-beijing\.aliyuncs\.com"):
            paths_of(source)

    def test_what_an_error_says_is_cut(self, server: Oss, source: OssSource) -> None:
        extra = f"<Endpoint>rm -rf / {'x' * 10_000}</Endpoint>"
        server.faults = [Fault(status=403, code="y" * 10_000, message="z" * 10_000, extra=extra)]
        with pytest.raises(Denied, match="credentials came from") as error:
            paths_of(source)
        assert len(str(error.value)) < 1500

    def test_a_wrong_region_says_so(self) -> None:
        with pytest.raises(Denied, match=r"Invalid signing region.*\n.*the bucket's own region"):
            paths_of(open_source(LOCATION, SourceAccess(region="cn-beijing")))

    def test_a_bucket_whose_readers_pay_says_so(self, server: Oss, source: OssSource) -> None:
        message = "Access denied for requester pay bucket"
        server.faults = [Fault(status=403, code="AccessDenied", message=message)]
        with pytest.raises(Denied, match="its readers would pay"):
            paths_of(source)

    def test_a_wrong_clock_says_so(self, server: Oss, source: OssSource) -> None:
        server.faults = [Fault(status=403, code="RequestTimeTooSkewed")]
        with pytest.raises(Denied, match="set this machine's clock"):
            paths_of(source)

    def test_the_id_of_the_request_is_told(self, server: Oss, source: OssSource) -> None:
        with pytest.raises(NotFound, match=r"\([0-9A-F]{32}\)"):
            paths_of(open_source("no-such-bucket"))

    def test_who_does_not_know_oss_is_a_bad_answer(self) -> None:
        with recorder(405, body=b"<html>no</html>") as other, pytest.raises(BadAnswer, match="405"):
            paths_of(open_source(LOCATION, SourceAccess(endpoint=f"http://{other.host}")))


class TestCredentials:
    @pytest.mark.parametrize("region", [REGION, ""])
    def test_a_wrong_secret_says_where_it_came_from(self, monkeypatch: pytest.MonkeyPatch, region: str) -> None:
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "wr0ng-s3cret")
        monkeypatch.setenv("OSS_REGION", region)
        with pytest.raises(Denied, match=r"SignatureDoesNotMatch.*\n.*the environment \(OSS_ACCESS_KEY_ID\)") as error:
            paths_of(open_source(LOCATION))
        assert_no_secret(error.value, "wr0ng", KEY_ID)

    def test_an_unknown_key_says_where_it_came_from(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", "LTAI-unknown")
        with pytest.raises(Denied, match=r"InvalidAccessKeyId.*\n.*the environment"):
            paths_of(open_source(LOCATION))

    def test_a_stranger_is_told_that_no_credentials_were_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        without_keys(monkeypatch)
        with pytest.raises(Denied, match="credentials came from nowhere: none were found"):
            paths_of(open_source(LOCATION))

    @pytest.mark.parametrize("secret", ["s3cret-\udcff", "s3cret-\u00e9", "s3cret-\nx"], ids=["no text", "é", "lines"])
    def test_a_secret_that_none_is_is_told_and_not_quoted(
        self, source: OssSource, monkeypatch: pytest.MonkeyPatch, secret: str
    ) -> None:
        entry = weights_of(source)
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", secret)
        other = open_source(LOCATION)
        for attempt in (other.list, functools.partial(other.check, entry), functools.partial(read, other, entry)):
            with pytest.raises(Denied, match=r"OSS_ACCESS_KEY_ID\)\n.*its secret") as error:
                attempt(everything) if attempt == other.list else attempt()
            assert_no_secret(error.value, "s3cret")

    def test_keys_that_rotate_while_many_read_are_fetched_once(self, server: Oss, role: Aliyun) -> None:
        together = threading.Barrier(4)
        source = open_source(LOCATION)
        entry = weights_of(source)
        server.keys.clear()
        server.faults = [Fault("GET /", before=lambda: together.wait(10), times=4)]
        with ThreadPoolExecutor(4) as pool:
            assert [*pool.map(lambda _: read(source, entry), range(4))] == [WEIGHTS] * 4
        assert len(role.given) == 2

    @pytest.mark.usefixtures("role")
    def test_a_second_refusal_is_final(self, server: Oss) -> None:
        source = open_source(LOCATION)
        entry = weights_of(source)
        server.faults = [Fault(status=403, code="AccessDenied", times=9)]
        with pytest.raises(Denied):
            read(source, entry)
        assert len(server.gets()) == 2

    @pytest.mark.parametrize("region", [REGION, ""])
    def test_a_token_of_sts_goes_with_the_keys(self, server: Oss, monkeypatch: pytest.MonkeyPatch, region: str) -> None:
        server.keys["STS.id"] = Key("sts-secret", "sts-token")
        monkeypatch.setenv("OSS_REGION", region)
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", "STS.id")
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "sts-secret")
        monkeypatch.setenv("OSS_SESSION_TOKEN", "sts-token")
        source = open_source(LOCATION)
        assert read(source, weights_of(source)) == WEIGHTS

    def test_a_token_that_expired_is_told_and_not_quoted(self, server: Oss, monkeypatch: pytest.MonkeyPatch) -> None:
        server.keys["STS.id"] = Key("sts-s3cret", "sts-t0ken", until=0)
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", "STS.id")
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "sts-s3cret")
        monkeypatch.setenv("OSS_SESSION_TOKEN", "sts-t0ken")
        with pytest.raises(Denied, match="SecurityTokenExpired") as error:
            paths_of(open_source(LOCATION))
        assert_no_secret(error.value, "s3cret", "t0ken")

    def test_a_secret_that_is_replaced_between_two_reads_is_used(
        self, server: Oss, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        without_keys(monkeypatch)
        monkeypatch.setenv(FOLDER, str(tmp_path))
        (tmp_path / "akId").write_text(KEY_ID)
        (tmp_path / "akSecret").write_text(SECRET)
        source = open_source(LOCATION)
        entry = weights_of(source)
        server.keys = {"LTAI-next": Key("next")}
        (tmp_path / "akId").write_text("LTAI-next")
        (tmp_path / "akSecret").write_text("next")
        assert read(source, entry) == WEIGHTS

    def test_keys_that_end_while_a_file_is_read_are_fetched_anew(self, server: Oss, role: Aliyun) -> None:
        source = open_source(LOCATION)
        entry = weights_of(source)
        server.keys.clear()
        assert read(source, entry) == WEIGHTS
        server.keys.clear()
        assert source.check(entry).size == entry.size
        assert len(role.given) == 3

    def test_no_log_has_secrets(self, caplog: pytest.LogCaptureFixture, source: OssSource) -> None:
        caplog.set_level(logging.INFO)
        read(source, weights_of(source))
        assert SECRET not in caplog.text


class TestTheRealSdk:
    """The fake server is what oss2 takes for OSS."""

    @pytest.mark.parametrize("auth", [oss2.Auth(KEY_ID, SECRET), oss2.AuthV4(KEY_ID, SECRET)], ids=["v1", "v4"])
    def test_it_lists_and_reads(self, server: Oss, auth: oss2.Auth) -> None:
        bucket = oss2.Bucket(auth, server.url, BUCKET, region=REGION)
        first = [found.key for found in oss2.ObjectIterator(bucket, prefix="qwen3/v1/", max_keys=2)]
        second = [found.key for found in oss2.ObjectIteratorV2(bucket, prefix="qwen3/v1/", max_keys=3)]
        assert first == second == sorted(key for key in server.buckets[BUCKET] if key.startswith("qwen3/v1/"))
        assert bucket.get_object("qwen3/v1/model.safetensors").read() == WEIGHTS

    def test_folders_are_common_prefixes(self, server: Oss) -> None:
        bucket = oss2.Bucket(oss2.AuthV4(KEY_ID, SECRET), server.url, BUCKET, region=REGION)
        found = bucket.list_objects_v2("qwen3/", delimiter="/")
        assert (found.prefix_list, found.object_list) == (["qwen3/v1/", "qwen3/v10/"], [])

    def test_a_range_beyond_the_end_is_all_of_it_unless_asked_properly(self, server: Oss) -> None:
        bucket = oss2.Bucket(oss2.AuthV4(KEY_ID, SECRET), server.url, BUCKET, region=REGION)
        beyond = functools.partial(bucket.get_object, "qwen3/v1/config.json", byte_range=(5, 9))
        assert beyond().status == 200
        with pytest.raises(oss2.exceptions.ServerError, match="InvalidRange"):
            beyond(headers={"x-oss-range-behavior": "standard"})


def assert_no_secret(error: BaseException, *secrets: str) -> None:
    """Nor in what a traceback would show: the errors that led to it."""
    shown = str(error) + str(error.__cause__)
    assert not [secret for secret in secrets if secret in shown]
