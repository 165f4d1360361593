import pytest

from modelctl.cluster.versions import KubeVersion, parse_kube_version, why_image_volume, why_no_image_volume
from modelctl.core.errors import UsageProblem


@pytest.mark.parametrize("text", ["1.36", "v1.36", "v1.36.3", "1.36+", "v1.36.3-aliyun.1", "v1.36.3+k3s1"])
def test_a_version_is_read_as_clusters_state_it(text: str) -> None:
    assert parse_kube_version(text) == KubeVersion(1, 36)


@pytest.mark.parametrize("text", ["", "1", "36", "1.x", "latest", "1.36 ", "1.36; rm"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(UsageProblem, match="not a version of Kubernetes"):
        parse_kube_version(text)


@pytest.mark.parametrize(("minor", "off", "on"), [
    (30, "has no image volumes", "has no image volumes"),
    (31, "gate ImageVolume is off", ""),
    (32, "gate ImageVolume is off", ""),
    (33, "gate ImageVolume is off", ""),
    (34, "gate ImageVolume is off", ""),
    (35, "", ""),
    (36, "", ""),
    (37, "", ""),
])  # fmt: skip
def test_image_volumes_come_with_a_gate_and_then_without(minor: int, off: str, on: str) -> None:
    version = KubeVersion(1, minor)
    said = [why_no_image_volume(version, gate=gate, sub_path=False) for gate in (False, True)]
    assert [bool(text) for text in said] == [bool(off), bool(on)]
    assert off in said[0]
    assert on in said[1]


@pytest.mark.parametrize(("minor", "mounts"), [(31, False), (32, False), (33, True), (36, True)])
def test_a_folder_of_an_image_mounts_since_beta(minor: int, mounts: bool) -> None:
    assert (why_no_image_volume(KubeVersion(1, minor), gate=True, sub_path=True) == "") is mounts


def test_where_the_gate_decides_it_is_named() -> None:
    assert why_image_volume(KubeVersion(1, 33)) == "Kubernetes 1.33 mounts images where ImageVolume is on"
    assert why_image_volume(KubeVersion(1, 36)) == "Kubernetes 1.36 mounts images"
