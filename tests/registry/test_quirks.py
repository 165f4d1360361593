from typing import get_args

import pytest

from modelctl.core.choices import RegistryKind
from modelctl.registry.quirks import QUIRKS, quirks_of


def test_every_kind_has_a_row_and_every_row_a_kind() -> None:
    assert {row.kind for row in QUIRKS} == set(get_args(RegistryKind))


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("GHCR.io", "ghcr"),
        ("1.dkr.ecr.us-east-1.amazonaws.com", "ecr"),
        ("models-registry-vpc.cn-hangzhou.cr.aliyuncs.com", "acr-ee"),
        ("models-registry.cn-hangzhou.cr.aliyuncs.com", "acr-ee"),
        ("registry.cn-hangzhou.aliyuncs.com", "acr"),
        ("x.azurecr.io", "azure"),
        ("registry.example", "distribution"),
    ],
)
def test_a_host_tells_the_kind(host: str, kind: str) -> None:
    assert quirks_of(host).kind == kind


def test_a_kind_that_is_said_wins_and_leads_to_no_other_host() -> None:
    said = quirks_of("mirror.example", "docker-hub")
    assert (said.kind, said.address) == ("docker-hub", "")
