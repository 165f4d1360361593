from pathlib import Path

import pytest

from modelctl.core.config import Config, Region, config_path, load_config
from modelctl.core.errors import NotFound, UsageProblem

VALID = """
[regions.cn-hangzhou]
registry = "registry.cn-hangzhou.example"
namespace = "models"

[regions.dev]
registry = "127.0.0.1:5000"
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that MODELCTL_CONFIG names; not there yet."""
    monkeypatch.setenv("MODELCTL_CONFIG", str(tmp_path / "mine.toml"))
    return tmp_path / "mine.toml"


def test_the_file_is_read(settings: Path) -> None:
    settings.write_text(VALID)
    assert load_config() == Config(
        regions={
            "cn-hangzhou": Region("registry.cn-hangzhou.example", "models"),
            "dev": Region("127.0.0.1:5000"),
        }
    )


def test_without_a_variable_it_is_in_the_users_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELCTL_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_path() == tmp_path / "modelctl/config.toml"


def test_there_need_not_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELCTL_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load_config() == Config({})


def test_one_that_is_named_must_be_there(settings: Path) -> None:
    with pytest.raises(NotFound, match=str(settings)):
        load_config()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("namespace", "namespaces", ["line 4", "namespaces"]),
        ('"127.0.0.1:5000"', "5000", ["line 7", "registry", "str"]),
        ('registry = "127.0.0.1:5000"', "", ["line 6", "registry", "missing"]),
        ("[regions.dev]", "[regions.dev", ["line 6"]),
        ("[regions.dev]", "[region.dev]", ["region"]),
    ],
)
def test_what_does_not_fit_is_named_with_its_line(settings: Path, old: str, new: str, said: list[str]) -> None:
    settings.write_text(VALID.replace(old, new))
    with pytest.raises(UsageProblem) as refused:
        load_config()
    assert str(settings) in refused.value.what
    assert [word for word in said if word not in refused.value.why] == []


def test_bytes_that_are_no_text_are_refused(settings: Path) -> None:
    settings.write_bytes(b"\xff")
    with pytest.raises(UsageProblem, match="settings"):
        load_config()


def test_a_region_that_is_not_there_is_refused_with_those_that_are(settings: Path) -> None:
    settings.write_text(VALID)
    with pytest.raises(UsageProblem) as refused:
        load_config().region("mars")
    assert "cn-hangzhou, dev" in refused.value.why
