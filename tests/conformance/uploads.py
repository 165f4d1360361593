"""What must become of a model on its way into any registry: its right bytes there, or one error and no tag.

A registry is tested by a subclass with the fixtures `plain`, `repository`, `model`, `layout` and `hurried`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelctl.core.errors import BadAnswer, Denied, DigestMismatch, ModelctlError, NotFound, Unavailable
from modelctl.core.retry import ATTEMPTS
from tests.fakes.fault_proxy import Fault, fault_proxy, recorder
from tests.fakes.registries import Registry
from tests.registries import IMPATIENT, pack_to, problems_at, push_to, tagged
from tests.stores import manifest_of

SIZE = 1_005_568
"""Of the first layer, which is sent first [bytes]."""

FIRST, MIDDLE, LAST = 1, SIZE // 2, SIZE - 1
PLACES = (FIRST, MIDDLE, LAST)

Send = Callable[[str], Any]
"""Sends the model to a reference."""

ONCE = {
    **{f"request cut at {at}": [Fault("^PATCH", "cut-request", at=at)] for at in (0, *PLACES, SIZE)},
    "stall": [Fault("^PATCH", "stall-request", at=MIDDLE)],
    **{
        f"no answer to {method}": [Fault(f"^{method} ", "no-answer")]
        for method in ("HEAD", "POST", "PATCH", "PUT .*uploads", "PUT .*manifests/sha256", "PUT .*manifests/v1")
    },
    **{
        f"503 to {method}": [Fault(f"^{method} ", "status", status=503)]
        for method in ("HEAD", "POST", "PATCH", "PUT .*uploads", "PUT .*manifests/sha256", "PUT .*manifests/v1")
    },
    "upload lost before the bytes": [Fault("^PATCH", "lose-upload")],
    "upload lost after the bytes": [Fault("^PUT .*uploads", "lose-upload")],
    "upload lost when it is gone on with": [Fault("^PATCH", "cut-request", at=MIDDLE), Fault("^GET", "lose-upload")],
    "upload rolled back": [Fault("^PATCH", "cut-request", at=LAST), Fault("^GET", "less")],
    "status busy": [Fault("^PATCH", "cut-request", at=MIDDLE), Fault("^GET", "status", status=503)],
    "cut twice": [Fault("^PATCH", "cut-request", at=MIDDLE), Fault("^PATCH", "cut-request", at=FIRST)],
    "cut, and then lost": [Fault("^PATCH", "cut-request", at=MIDDLE), Fault("^PUT .*uploads", "lose-upload")],
}

ALWAYS: dict[str, tuple[Fault, type[ModelctlError]]] = {
    "cut": (Fault("^PATCH", "cut-request", at=0), Unavailable),
    "no answer to POST": (Fault("^POST", "no-answer"), Unavailable),
    "lost before the bytes": (Fault("^PATCH", "lose-upload"), Unavailable),
    "lost after the bytes": (Fault("^PUT .*uploads", "lose-upload"), DigestMismatch),
    "403 to POST": (Fault("^POST", "status", status=403), Denied),
    "403 to PATCH": (Fault("^PATCH", "status", status=403), Denied),
    "404 to POST": (Fault("^POST", "status", status=404), NotFound),
    "400 to PATCH": (Fault("^PATCH", "status", status=400), BadAnswer),
    "413 to PATCH": (Fault("^PATCH", "status", status=413), BadAnswer),
    "500 to PUT": (Fault("^PUT .*uploads", "status", status=500), Unavailable),
    "no Location": (Fault("^POST", "status", status=202), BadAnswer),
    "Location that is none": (Fault("^POST", "status", status=202, headers={"Location": "http://["}), BadAnswer),
    "500 to the manifest": (Fault("^PUT .*manifests/sha256", "status", status=500), Unavailable),
    "400 to the manifest": (Fault("^PUT .*manifests/sha256", "status", status=400), BadAnswer),
    "cut manifest": (Fault("^PUT .*manifests/sha256", "cut-request", at=9), Unavailable),
    "500 to the tag": (Fault("^PUT .*manifests/v1", "status", status=500), Unavailable),
    "busy too long": (Fault("^PATCH", "status", status=429, headers={"Retry-After": "999"}), Unavailable),
}


@pytest.mark.usefixtures("hurried")
class UploadConformance:
    @pytest.fixture(params=["push", "pack"])
    def send(self, request: pytest.FixtureRequest, model: Path, layout: str) -> Send:
        """Push the model from a layout, or pack it straight into the registry; one layer after the other."""
        quick = replace(IMPATIENT, timeout_s=0.3)
        if request.param == "push":
            return lambda text: push_to(layout, text, access=quick, jobs=1)
        return lambda text: pack_to(model, text, access=quick, jobs=1)

    def test_the_first_layer_has_the_size_that_the_faults_are_placed_by(self, layout: str) -> None:
        folder = Path(layout.removeprefix("oci:").removesuffix(":v1"))

        assert manifest_of(folder)["layers"][0]["size"] == SIZE

    @pytest.mark.parametrize("case", ONCE)
    def test_what_is_struck_once_arrives_whole(self, plain: Registry, repository: str, send: Send, case: str) -> None:
        with fault_proxy(plain.host, *map(replace, ONCE[case])) as proxy:
            send(f"{proxy.host}/{repository}:v1")

        assert problems_at(f"{plain.host}/{repository}:v1") == {}

    @pytest.mark.parametrize("case", ALWAYS)
    def test_what_is_struck_always_is_one_error_and_no_tag(
        self, plain: Registry, repository: str, send: Send, case: str
    ) -> None:
        fault, error = ALWAYS[case]
        with fault_proxy(plain.host, replace(fault, times=999)) as proxy, pytest.raises(ModelctlError) as caught:
            send(f"{proxy.host}/{repository}:v1")

        assert (caught.value.code, tagged(f"{plain.host}/{repository}:v1")) == (error.code, False)

    @pytest.mark.parametrize("method", ["POST", "PATCH", "PUT .*uploads", "PUT .*manifests"])
    def test_an_upload_that_is_sent_elsewhere_is_refused(
        self, plain: Registry, repository: str, send: Send, method: str
    ) -> None:
        with recorder() as other:
            away = Fault(f"^{method}", "redirect", headers={"Location": f"http://{other.host}/x"}, times=999)
            with fault_proxy(plain.host, away) as proxy, pytest.raises(BadAnswer):
                send(f"{proxy.host}/{repository}:v1")

        assert (other.requests, other.kept) == ([], 0)

    def test_what_failed_goes_on_with_the_same_command(self, plain: Registry, repository: str, send: Send) -> None:
        with fault_proxy(plain.host, Fault("^PATCH", "status", status=500, skip=1, times=ATTEMPTS)) as proxy:
            with pytest.raises(Unavailable):
                send(f"{proxy.host}/{repository}:v1")
            send(f"{proxy.host}/{repository}:v1")

        assert problems_at(f"{plain.host}/{repository}:v1") == {}
