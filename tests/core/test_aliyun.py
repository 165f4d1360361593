import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl.core.access import SourceAccess
from modelctl.core.aliyun import FOLDER, METADATA, Keys, find_credentials
from modelctl.core.errors import BadAnswer, Denied, DiskProblem, NotFound, Unavailable
from tests.fakes.aliyun import PROVIDER_ARN, ROLE, ROLE_ARN, Aliyun, aliyun
from tests.fakes.fault_proxy import recorder
from tests.fakes.oss import oss

PLAIN = {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}
OSS_ENVIRONMENT = {"OSS_ACCESS_KEY_ID": "id-1", "OSS_ACCESS_KEY_SECRET": "secret-1"}
NO_ACCESS = SourceAccess()


@pytest.fixture
def cloud() -> Iterator[Aliyun]:
    with oss() as server, aliyun(server) as cloud:
        yield cloud


def instance(cloud: Aliyun, **more: str) -> dict[str, str]:
    return {METADATA: cloud.url, **more}


def pod(cloud: Aliyun, folder: Path, token: str = "a-pods-token") -> dict[str, str]:
    (folder / "token").write_text(token)
    return {
        "ALIBABA_CLOUD_ROLE_ARN": ROLE_ARN,
        "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": PROVIDER_ARN,
        "ALIBABA_CLOUD_OIDC_TOKEN_FILE": str(folder / "token"),
        "ALIBABA_CLOUD_STS_ENDPOINT": cloud.host,
        "ALIBABA_CLOUD_STS_HTTP_SCHEME": "http",
    }


def write_profiles(home: Path, *profiles: dict[str, str]) -> None:
    (home / ".aliyun").mkdir()
    (home / ".aliyun" / "config.json").write_text(json.dumps({"current": "default", "profiles": profiles}))


def write_secret(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(value + "\n")
    return folder


@pytest.fixture
def user_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(home))
    return home


class TestEnvironment:
    @pytest.mark.parametrize(
        "names",
        [
            ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"),
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"),
        ],
    )
    def test_keys_and_a_token_may_stand_there(self, names: tuple[str, str, str]) -> None:
        found = find_credentials(NO_ACCESS, dict(zip(names, ("id", "secret", "token"), strict=True)))
        assert (found.keys(), found.origin) == (Keys("id", "secret", "token"), f"the environment ({names[0]})")

    def test_an_id_without_a_secret_is_no_key(self) -> None:
        assert find_credentials(NO_ACCESS, PLAIN | {"OSS_ACCESS_KEY_ID": "id"}).keys() is None

    def test_there_is_nothing_else_to_try_after_a_refusal(self) -> None:
        found = find_credentials(NO_ACCESS, OSS_ENVIRONMENT)
        assert not found.renew(found.keys())


class TestSecretFolder:
    FILES = (
        {"akId": "id", "akSecret": "secret"},
        {"OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": "secret"},
        {"ALIBABA_CLOUD_ACCESS_KEY_ID": "id", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "secret"},
    )

    @pytest.mark.parametrize("files", FILES, ids=min)
    def test_its_files_are_named_as_csi_drivers_or_as_variables(self, tmp_path: Path, files: dict[str, str]) -> None:
        found = find_credentials(NO_ACCESS, {FOLDER: str(write_secret(tmp_path, files))})
        assert found.keys() == Keys("id", "secret", until=0)

    def test_the_flag_wins(self, tmp_path: Path) -> None:
        folder = write_secret(tmp_path, {"akId": "id-2", "akSecret": "secret-2", "securityToken": "token-2"})
        found = find_credentials(SourceAccess(secret_dir=str(folder)), OSS_ENVIRONMENT)
        assert (found.keys(), found.origin) == (Keys("id-2", "secret-2", "token-2", until=0), f"folder {folder}")

    def test_files_that_changed_are_read_again(self, tmp_path: Path) -> None:
        found = find_credentials(SourceAccess(secret_dir=str(write_secret(tmp_path, self.FILES[0]))), {})
        found.keys()
        write_secret(tmp_path, {"akId": "new", "akSecret": "new"})
        assert found.keys() == Keys("new", "new", until=0)

    def test_files_that_changed_are_other_keys_for_all_who_were_refused(self, tmp_path: Path) -> None:
        found = find_credentials(SourceAccess(secret_dir=str(write_secret(tmp_path, self.FILES[0]))), {})
        refused = found.keys()
        write_secret(tmp_path, {"akId": "new", "akSecret": "new"})
        assert [found.renew(refused), found.renew(refused)] == [True, True]

    @pytest.mark.parametrize("files", [{}, {"akId": "id"}, {"akId": "id", "akSecret": ""}], ids=len)
    def test_a_folder_without_them_is_an_error(self, tmp_path: Path, files: dict[str, str]) -> None:
        found = find_credentials(SourceAccess(secret_dir=str(write_secret(tmp_path, files))), {})
        with pytest.raises(Denied, match="no files akId and akSecret"):
            found.keys()

    def test_what_cannot_be_read_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "akId").mkdir()
        with pytest.raises(DiskProblem, match="akId"):
            find_credentials(SourceAccess(secret_dir=str(tmp_path)), {}).keys()


class TestProfile:
    @pytest.fixture(autouse=True)
    def profiles(self, user_home: Path) -> None:
        key = {"access_key_id": "id", "access_key_secret": "secret"}
        write_profiles(
            user_home,
            {"name": "default", "mode": "AK", "access_key_id": "d", "access_key_secret": "d"},
            {"name": "ak", "mode": "AK", **key},
            {"name": "sts", "mode": "StsToken", "sts_token": "token", **key},
            {"name": "ecs", "mode": "EcsRamRole", "ram_role_name": ROLE},
            {"name": "sso", "mode": "CloudSSO"},
        )

    @pytest.mark.parametrize(("name", "token"), [("ak", ""), ("sts", "token")])
    def test_the_aliyun_clis_profiles_can_be_named(self, name: str, token: str) -> None:
        found = find_credentials(SourceAccess(profile=name), OSS_ENVIRONMENT)
        assert found.keys() == Keys("id", "secret", token)
        assert found.origin.startswith(f"profile {name!r} of")

    def test_the_environment_may_name_one(self) -> None:
        assert find_credentials(NO_ACCESS, {"ALIBABA_CLOUD_PROFILE": "ak"}).keys() == Keys("id", "secret")

    def test_one_may_say_that_the_instance_has_a_role(self, cloud: Aliyun) -> None:
        keys = find_credentials(SourceAccess(profile="ecs"), instance(cloud)).keys()
        assert keys
        assert [keys.key_id] == cloud.given

    def test_none_is_taken_that_was_not_named(self) -> None:
        assert find_credentials(NO_ACCESS, PLAIN).keys() is None

    def test_a_mode_that_cannot_be_used_is_an_error(self) -> None:
        with pytest.raises(Denied, match="its mode is 'CloudSSO'"):
            find_credentials(SourceAccess(profile="sso"), PLAIN)

    def test_one_that_is_not_there_is_not_found(self) -> None:
        with pytest.raises(NotFound, match="profile 'other' of"):
            find_credentials(SourceAccess(profile="other"), PLAIN)

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"profiles": [1]}'])
    def test_a_file_that_is_none_has_no_profiles(self, user_home: Path, content: str) -> None:
        (user_home / ".aliyun" / "config.json").write_text(content)
        with pytest.raises(NotFound, match="has no such profile"):
            find_credentials(SourceAccess(profile="ak"), PLAIN)


class TestPod:
    def test_its_token_is_exchanged_for_keys(self, cloud: Aliyun, tmp_path: Path) -> None:
        found = find_credentials(NO_ACCESS, pod(cloud, tmp_path))
        keys = found.keys()
        assert keys
        assert cloud.oss.keys[keys.key_id][:2] == (keys.secret, keys.token)
        assert found.origin == f"RRSA, role {ROLE_ARN}"

    def test_keys_are_used_as_long_as_they_are_good(self, cloud: Aliyun, tmp_path: Path) -> None:
        found = find_credentials(NO_ACCESS, pod(cloud, tmp_path))
        assert found.keys() == found.keys()
        assert len(cloud.given) == 1

    def test_keys_are_fetched_again_before_they_expire(self, cloud: Aliyun, tmp_path: Path) -> None:
        cloud.life_s = 0
        found = find_credentials(NO_ACCESS, pod(cloud, tmp_path))
        assert found.keys() != found.keys()

    def test_after_a_refusal_there_are_other_keys(self, cloud: Aliyun, tmp_path: Path) -> None:
        found = find_credentials(NO_ACCESS, pod(cloud, tmp_path))
        assert found.renew(found.keys())

    def test_of_those_who_were_refused_at_once_one_fetches_other_keys(self, cloud: Aliyun, tmp_path: Path) -> None:
        found = find_credentials(NO_ACCESS, pod(cloud, tmp_path))
        refused = found.keys()
        assert [found.renew(refused) for _ in range(4)] == [True] * 4
        assert len(cloud.given) == 2

    def test_a_token_that_was_replaced_is_read_again(self, cloud: Aliyun, tmp_path: Path) -> None:
        cloud.life_s = 0
        found = find_credentials(NO_ACCESS, pod(cloud, tmp_path))
        found.keys()
        cloud.oidc = "the-next"
        (tmp_path / "token").write_text("the-next")
        assert found.keys()

    def test_a_token_that_is_refused_is_named_and_not_quoted(self, cloud: Aliyun, tmp_path: Path) -> None:
        with pytest.raises(Denied, match=r"answered 400 AuthenticationFail\.OIDCToken\.Invalid") as error:
            find_credentials(NO_ACCESS, pod(cloud, tmp_path, "wr0ng-token")).keys()
        assert "wr0ng" not in str(error.value)

    def test_a_token_that_is_not_there_is_not_found(self, cloud: Aliyun, tmp_path: Path) -> None:
        environ = pod(cloud, tmp_path)
        (tmp_path / "token").unlink()
        with pytest.raises(NotFound, match="token"):
            find_credentials(NO_ACCESS, environ).keys()

    @pytest.mark.parametrize("body", [b"", b"{}", b'{"Credentials": {"AccessKeyId": "x"}}'])
    def test_an_answer_without_keys_is_bad(self, cloud: Aliyun, tmp_path: Path, body: bytes) -> None:
        with recorder(200, body=body) as other, pytest.raises(BadAnswer, match="holds no credentials"):
            find_credentials(NO_ACCESS, {**pod(cloud, tmp_path), "ALIBABA_CLOUD_STS_ENDPOINT": other.host}).keys()


class TestInstance:
    def test_its_role_gives_keys_in_hardened_mode(self, cloud: Aliyun) -> None:
        found = find_credentials(NO_ACCESS, instance(cloud))
        keys = found.keys()
        assert keys
        assert ([keys.key_id], found.origin) == (cloud.given, "the RAM role of this instance")
        assert cloud.requests[0] == "PUT /latest/api/token"

    def test_a_role_may_be_named(self, cloud: Aliyun) -> None:
        found = find_credentials(NO_ACCESS, instance(cloud, ALIBABA_CLOUD_ECS_METADATA=ROLE))
        assert (found.keys() is not None, found.origin) == (True, f"RAM role {ROLE} of this instance")

    def test_a_named_role_that_is_not_there_is_an_error(self, cloud: Aliyun) -> None:
        with pytest.raises(Denied, match=r"RAM role other\n.*answered 404"):
            find_credentials(NO_ACCESS, instance(cloud, ALIBABA_CLOUD_ECS_METADATA="other")).keys()

    def test_keys_are_fetched_again_before_they_expire(self, cloud: Aliyun) -> None:
        cloud.life_s = 0
        found = find_credentials(NO_ACCESS, instance(cloud))
        assert found.keys() != found.keys()

    def test_no_proxy_stands_between(self, cloud: Aliyun, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        assert find_credentials(NO_ACCESS, instance(cloud)).keys()

    def test_without_a_role_a_stranger_asks(self, cloud: Aliyun) -> None:
        cloud.role = ""
        assert find_credentials(NO_ACCESS, instance(cloud)).keys() is None

    def test_on_another_machine_a_stranger_asks(self) -> None:
        found = find_credentials(NO_ACCESS, {METADATA: "http://127.0.0.1:1"})
        assert (found.keys(), found.origin, found.renew(None)) == (None, "nowhere: none were found", False)

    def test_it_can_be_left_unasked(self, cloud: Aliyun) -> None:
        assert find_credentials(NO_ACCESS, instance(cloud) | PLAIN).keys() is None
        assert cloud.requests == []


def test_nobody_is_asked_for_a_stranger(cloud: Aliyun) -> None:
    found = find_credentials(SourceAccess(credentials=False), instance(cloud) | OSS_ENVIRONMENT)
    assert (found.keys(), cloud.requests) == (None, [])


def test_a_service_that_does_not_answer_is_unavailable(tmp_path: Path, cloud: Aliyun) -> None:
    cloud.status = 503
    with pytest.raises(Unavailable, match="STS"):
        find_credentials(NO_ACCESS, pod(cloud, tmp_path)).keys()


def test_keys_do_not_show_their_secrets() -> None:
    assert repr(Keys("id", "s3cret", "t0ken")) == "Keys(key_id='id', until=inf)"


def test_keys_that_could_not_be_fetched_are_fetched_by_the_next_request(tmp_path: Path, cloud: Aliyun) -> None:
    found = find_credentials(NO_ACCESS, pod(cloud, tmp_path))
    cloud.status = 403
    with pytest.raises(Denied):
        found.keys()
    cloud.status = 200
    assert found.keys()
