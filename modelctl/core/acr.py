"""Who the user is at an instance of ACR Enterprise Edition: a temporary login, in exchange for keys of Alibaba Cloud.

The SDK signs; it is imported when a login is asked for. Neither keys nor logins are part of an error.

Source: Container Registry API 2018-12-01, "GetAuthorizationToken"; Alibaba Cloud, "RPC-style request signature".
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping

import msgspec

from modelctl.core.access import Login, SourceAccess
from modelctl.core.aliyun import Credentials, Keys, find_credentials
from modelctl.core.errors import BadAnswer, Denied, Unavailable, UsageProblem
from modelctl.core.http import BUSY, Pools, read_limited
from modelctl.core.learned import learned
from modelctl.core.retry import retry_after, retrying

ENDPOINT = "MODELCTL_ACR_ENDPOINT"
"""Names the API by its URL, where that is not the region's."""

_MARGIN_S = 300.0
"""A login is replaced so long before it ends, or a fifth of its life if that is shorter [s]."""

_BAD_KEYS = ("InvalidAccessKeyId", "InvalidSecurityToken", "SecurityTokenExpired", "Signature", "IllegalTimestamp")


class _Answer(msgspec.Struct, rename="pascal"):
    """A login; `expire_time` counts ms since 1970."""

    temp_username: str
    authorization_token: str
    expire_time: int


class AcrLogin:
    """The login at one instance, fetched when it is first needed, and again when it ends. Thread-safe."""

    def __init__(
        self,
        name: str,
        instance_id: str,
        region: str,
        *,
        vpc: bool = False,
        timeout_s: float = 60.0,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Ask for the instance `instance_id` in Alibaba Cloud's `region`; errors call it the region `name`.

        With `vpc` the API is asked inside the VPC. `timeout_s` bounds each silence [s]; keys are looked for in
        `environ`, and where it leads.
        """
        self.origin = f"the API of ACR for {instance_id}"
        self._name, self._instance_id, self._region = name, instance_id, region
        self.url = environ.get(ENDPOINT) or f"https://cr{'-vpc' if vpc else ''}.{region}.aliyuncs.com"
        self._timeout_s, self._environ = timeout_s, environ
        self._pools = Pools(timeout_s)
        self._keys: Credentials | None = None
        self._login: Login | None = None
        self._lock = threading.Lock()

    def now(self) -> Login:
        """Return a login that is good now.

        Raises:
            Denied: There are no keys, or they may not; says which they were. Unavailable: The API does not answer.
            UsageProblem: The SDK is not installed.
        """
        with self._lock:
            if self._login is None or self._login.until <= time.time():
                self._login = self._fetch()
            return self._login

    def renew(self) -> bool:
        """Fetch another login after a refusal of the one that there was; say whether it is another."""
        with self._lock:
            before = self._login
            self._login = self._fetch() if before else None
            return self._login != before

    def _fetch(self) -> Login:
        """Ask with the keys that there are, and once more where other keys can be had."""
        found = self._keys = self._keys or find_credentials(SourceAccess(timeout_s=self._timeout_s), self._environ)
        keys = found.keys()
        try:
            return retrying(lambda: self._ask(keys))
        except Denied:
            if not found.renew(keys):
                raise
            return retrying(lambda: self._ask(found.keys()))

    def _ask(self, keys: Keys | None) -> Login:
        if not keys:
            raise self._denied("no keys of Alibaba Cloud were found", "export ALIBABA_CLOUD_ACCESS_KEY_ID and _SECRET")
        name = f"API of ACR, {self.url}"
        response = self._pools.send(name, "POST", self.url + self._signed(keys), {"Accept-Encoding": "identity"})
        data = read_limited(response, name)
        try:
            document = json.loads(data)
            code = str(document.get("Code", ""))[:100]
        except (ValueError, AttributeError):
            document, code = {}, ""
        if response.status in BUSY or code.startswith("Throttling"):
            why = f"it answered {response.status} {code}".rstrip()
            raise Unavailable(name, why=why, retry_after=retry_after(response.headers))
        if response.status != 200 or not document.get("IsSuccess", True):
            raise self._refused(f"{response.status} {code}".rstrip(), code)
        try:
            answer = msgspec.convert(document, learned(_Answer))
        except msgspec.ValidationError as error:
            raise BadAnswer(name, why="its answer holds no login") from error
        until = answer.expire_time / 1000
        margin = min(_MARGIN_S, max(0.0, until - time.time()) / 5)
        return Login(answer.temp_username, answer.authorization_token, self.origin, until - margin)

    def _signed(self, keys: Keys) -> str:
        """Return path and query of the request."""
        try:
            from aliyunsdkcore.auth.composer.rpc_signature_composer import get_signed_url
        except ImportError as error:
            raise UsageProblem(
                f"region {self._name}: temporary credentials of ACR",
                why=f"{error.name} is not installed",
                hint="pip install 'modelctl[acr]', or say username and password in the settings",
            ) from error
        asked = {
            "Action": "GetAuthorizationToken",
            "Version": "2018-12-01",
            "RegionId": self._region,
            "InstanceId": self._instance_id,
        }
        token = {"SecurityToken": keys.token} if keys.token else {}
        signed, _ = get_signed_url({**asked, **token}, keys.key_id, keys.secret, "JSON", "POST", {})
        return str(signed)

    def _refused(self, answer: str, code: str) -> Denied:
        origin = self._keys.origin if self._keys else ""
        why = f"{self.url}, GetAuthorizationToken: it answered {answer}; keys from {origin}"
        if code.startswith(_BAD_KEYS):
            return self._denied(why, "put these keys right, or this machine's clock")
        return self._denied(why, "allow cr:GetAuthorizationToken to them in RAM; check instance_id and region")

    def _denied(self, why: str, hint: str) -> Denied:
        return Denied(f"region {self._name}: temporary credentials of ACR {self._instance_id}", why=why, hint=hint)
