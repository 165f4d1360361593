"""Temporary logins of ACR: asked for with signed requests, kept while they are good, refused in one clear way."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from modelctl.core.acr import ENDPOINT, AcrLogin
from modelctl.core.errors import BadAnswer, Denied, Unavailable
from tests.fakes.acr import INSTANCE, KEY_ID, SECRET, AcrApi, acr_api
from tests.fakes.aliyun import aliyun
from tests.fakes.oss import oss
from tests.fakes.oss_signatures import Key

KEYS = {"ALIBABA_CLOUD_ACCESS_KEY_ID": KEY_ID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET}


@pytest.fixture
def api() -> Iterator[AcrApi]:
    with acr_api() as api:
        yield api


def login(api: AcrApi, *, instance: str = INSTANCE, **environ: str) -> AcrLogin:
    return AcrLogin("cn-beijing", instance, "cn-beijing", timeout_s=5, environ={ENDPOINT: api.url, **KEYS, **environ})


def test_the_login_is_what_the_api_gives(api: AcrApi) -> None:
    found = login(api).now()

    assert (found.user, found.password, found.until > time.time() + 60) == ("cr_temp_user", "temporary-1", True)


def test_what_is_asked_is_named(api: AcrApi) -> None:
    login(api).now()

    assert {name: api.requests[0][name] for name in ("Action", "InstanceId", "RegionId")} == {
        "Action": "GetAuthorizationToken",
        "InstanceId": INSTANCE,
        "RegionId": "cn-beijing",
    }


def test_a_login_that_is_good_is_kept(api: AcrApi) -> None:
    kept = login(api)

    assert (kept.now(), len(api.requests)) == (kept.now(), 1)


def test_a_login_that_ended_is_replaced(api: AcrApi) -> None:
    api.life_s = 0
    kept = login(api)

    assert [kept.now().password for _ in range(2)] == ["temporary-1", "temporary-2"]


def test_a_login_that_was_refused_is_replaced(api: AcrApi) -> None:
    kept = login(api)
    kept.now()

    assert (kept.renew(), kept.now().password) == (True, "temporary-2")


def test_where_none_was_asked_for_there_is_none_to_replace(api: AcrApi) -> None:
    assert (login(api).renew(), api.requests) == (False, [])


@pytest.mark.parametrize(
    ("vpc", "url"), [(False, "https://cr.cn-beijing.aliyuncs.com"), (True, "https://cr-vpc.cn-beijing.aliyuncs.com")]
)
def test_each_region_has_an_api_of_its_own(vpc: bool, url: str) -> None:
    assert AcrLogin("r", INSTANCE, "cn-beijing", vpc=vpc, environ={}).url == url


def test_the_roles_keys_go_with_their_token(api: AcrApi) -> None:
    with oss() as server, aliyun(server) as cloud:
        login_of_role = AcrLogin(
            "r", INSTANCE, "cn-beijing", environ={ENDPOINT: api.url, "MODELCTL_ECS_METADATA": cloud.url}
        )
        api.keys = {f"STS.key-{n}": Key(f"sts-secret-{n}", f"sts-token-{n}") for n in range(1, 5)}
        found = login_of_role.now()

    assert (found.user, api.requests[0]["SecurityToken"].startswith("sts-token-")) == ("cr_temp_user", True)


def test_no_keys_are_one_error_that_says_what_to_do() -> None:
    with pytest.raises(Denied) as refused:
        AcrLogin("mars", INSTANCE, "cn-beijing", environ={"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}).now()

    assert ("region mars" in refused.value.what, "ALIBABA_CLOUD_ACCESS_KEY_ID" in refused.value.hint) == (True, True)


def test_no_permission_is_one_error_that_names_region_request_and_next_step(api: AcrApi) -> None:
    api.allowed = set()
    with pytest.raises(Denied) as refused:
        login(api).now()

    said = str(refused.value)
    assert [
        word in said for word in ("region cn-beijing", INSTANCE, "403 NoPermission", "the environment (ALIBABA")
    ] + ["allow cr:GetAuthorizationToken" in refused.value.hint] == [True] * 5


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "wr0ng"}, "SignatureDoesNotMatch"),
        ({"ALIBABA_CLOUD_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId"),
        ({"ALIBABA_CLOUD_SECURITY_TOKEN": "stale"}, "InvalidSecurityToken"),
    ],
)
def test_bad_keys_are_told_from_missing_rights(api: AcrApi, environ: dict[str, str], code: str) -> None:
    with pytest.raises(Denied, match="temporary credentials") as refused:
        login(api, **environ).now()

    assert (code in refused.value.why, "these keys" in refused.value.hint) == (True, True)


def test_an_instance_that_is_not_there_is_denied(api: AcrApi) -> None:
    with pytest.raises(Denied, match="cri-other") as refused:
        login(api, instance="cri-other").now()

    assert "instance_id" in refused.value.hint


def test_no_secret_is_part_of_an_error(api: AcrApi) -> None:
    api.allowed = set()
    api.keys[KEY_ID] = Key(SECRET, "t0ken")
    with pytest.raises(Denied) as refused:
        login(api, ALIBABA_CLOUD_SECURITY_TOKEN="t0ken").now()

    assert [word in str(refused.value) for word in (SECRET, "t0ken", "Signature=")] == [False] * 3


def test_a_token_may_have_any_characters(api: AcrApi) -> None:
    api.keys[KEY_ID] = Key(SECRET, "CAIS+a/b==~*& é%20")

    assert login(api, ALIBABA_CLOUD_SECURITY_TOKEN="CAIS+a/b==~*& é%20").now().user == "cr_temp_user"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_api_is_asked_again(api: AcrApi, status: int) -> None:
    api.failures = [status, status]

    assert login(api).now().password == "temporary-1"


def test_an_api_that_stays_busy_is_unavailable(api: AcrApi) -> None:
    api.failures = [503] * 99
    with pytest.raises(Unavailable):
        login(api).now()


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b"not json", b'{"TempUsername": 1}'])
def test_an_answer_without_a_login_is_a_bad_answer(api: AcrApi, answer: bytes) -> None:
    api.answer = answer
    with pytest.raises(BadAnswer):
        login(api).now()


def test_an_answer_that_says_no_is_denied(api: AcrApi) -> None:
    api.answer = b'{"IsSuccess": false, "Code": "NO_PERMISSION"}'
    with pytest.raises(Denied, match="NO_PERMISSION"):
        login(api).now()
