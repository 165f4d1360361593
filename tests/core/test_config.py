import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from modelctl.core.config import Acr, ClusterSettings, Config, Region, config_path, load_config, render_schema
from modelctl.core.errors import NotFound, UsageProblem

VALID = """
[regions.cn-hangzhou]
registry = "registry.cn-hangzhou.example"
namespace = "models"

[regions.dev]
registry = "127.0.0.1:5000"

[clusters.prod-a]
region = "cn-hangzhou"
image = "registry.cn-hangzhou.example/tools/modelctl:1"

[clusters."kind/dev@home"]
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
        },
        clusters={
            "prod-a": ClusterSettings("cn-hangzhou", "registry.cn-hangzhou.example/tools/modelctl:1"),
            "kind/dev@home": ClusterSettings(),
        },
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
        ('registry = "127.0.0.1:5000"', "", ["line 6", "`registry` or `acr`"]),
        ("[regions.dev]", "[regions.dev", ["line 6"]),
        ("[regions.dev]", "[region.dev]", ["region"]),
        ("namespace =", 'bandwidth = "2"\nnamespace =', ["line 4", "not a rate", "bandwidth"]),
        ("namespace =", 'username = "alice"\nnamespace =', ["line 4", "password_file"]),
        ("namespace =", 'password = "p"\nnamespace =', ["password", "username"]),
        ("namespace =", 'quirks = "nexus"\nnamespace =', ["line 4", "quirks"]),
        ("namespace =", "connections = -1\nnamespace =", ["line 4", "connections"]),
        ('registry = "127.0.0.1:5000"', "[regions.dev.acr]\nregion = 1", ["line 8", "region", "str"]),
        ('registry = "127.0.0.1:5000"', "[regions.dev.acr]\nregion = 'x'", ["line 7", "instance_name"]),
        ("region =", "regions =", ["line 10", "regions"]),
        ('image = "', 'images = "', ["line 11", "images"]),
        ('image = "registry.cn-hangzhou.example/tools/modelctl:1"', "image = 1", ["line 11", "image", "str"]),
        ('[clusters."kind/dev@home"]', "[cluster.dev]", ["cluster"]),
        ('[clusters."kind/dev@home"]', "[clusters]\ndev = 1", ["line 14", "object"]),
    ],
)
def test_what_does_not_fit_is_named_with_its_line(settings: Path, old: str, new: str, said: list[str]) -> None:
    settings.write_text(VALID.replace(old, new))
    with pytest.raises(UsageProblem) as refused:
        load_config()
    assert str(settings) in refused.value.what
    assert [word for word in said if word not in refused.value.why] == []


def test_what_is_no_table_is_named(settings: Path) -> None:
    settings.write_text("[clusters]\ndev = 1\n")
    with pytest.raises(UsageProblem, match=r"\[clusters\.dev\]\n  why: line 2: "):
        load_config()


def test_bytes_that_are_no_text_are_refused(settings: Path) -> None:
    settings.write_bytes(b"\xff")
    with pytest.raises(UsageProblem, match="settings"):
        load_config()


def test_a_region_that_is_not_there_is_refused_with_those_that_are(settings: Path) -> None:
    settings.write_text(VALID)
    with pytest.raises(UsageProblem) as refused:
        load_config().region("mars")
    assert "cn-hangzhou, dev" in refused.value.why


def test_of_a_cluster_the_file_need_say_nothing(settings: Path) -> None:
    settings.write_text(VALID)
    assert load_config().cluster("mars") == ClusterSettings()


def region(settings: Path, text: str, name: str = "a") -> Region:
    """Return a region of a file with `text` in [regions.a]."""
    settings.write_text(f"[regions.a]\n{text}\n")
    return load_config().region(name)


@pytest.mark.parametrize(
    ("vpc", "host"),
    [
        ("false", "models-registry.cn-hangzhou.cr.aliyuncs.com"),
        ("true", "models-registry-vpc.cn-hangzhou.cr.aliyuncs.com"),
    ],
)
def test_the_host_of_an_instance_is_derived(settings: Path, vpc: str, host: str) -> None:
    found = region(settings, f'acr = {{instance_name = "models", region = "cn-hangzhou", vpc = {vpc}}}')
    assert (found.host, found.acr) == (host, Acr("models", "cn-hangzhou", vpc=vpc == "true"))


def test_variables_of_the_environment_are_put_in(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    found = region(settings, 'registry = "h.example"\nusername = "alice"\npassword = "<${SECRET}>$${SECRET}"')
    assert found.password == "<s3cret>${SECRET}"


UNSET = 'registry = "h.example"\nusername = "alice"\npassword = "${NOT_SET}"'


def test_a_variable_that_is_not_set_is_named_with_its_line(settings: Path) -> None:
    with pytest.raises(UsageProblem, match="line 4: password: the environment has no NOT_SET"):
        region(settings, UNSET)


def test_a_variable_that_only_another_region_needs_may_be_unset(settings: Path) -> None:
    assert region(settings, f'{UNSET}\n[regions.b]\nregistry = "b.example"', "b").host == "b.example"


def test_a_region_never_shows_its_password(settings: Path) -> None:
    found = region(settings, 'registry = "h.example"\nusername = "alice"\npassword = "s3cret"')
    assert "s3cret" not in repr(found) + repr(load_config())


def test_paths_begin_at_the_files_folder(settings: Path) -> None:
    found = region(settings, 'registry = "h.example"\nca_file = "ca.pem"\nauthfile = "~/auth.json"')
    assert (found.ca_file, found.authfile) == (str(settings.parent / "ca.pem"), str(Path.home() / "auth.json"))


USERS = """
[regions.a]
registry = "a.example"
namespace = "mine"
username = "alice"
password = "s3cret"
insecure = true

[clusters.prod]
region = "a"
image = "a.example/modelctl:1"
"""


@pytest.fixture
def project(settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's file, not there yet, above the working directory; the user's file is there."""
    settings.write_text(USERS)
    (tmp_path / "repository/.git").mkdir(parents=True)
    (tmp_path / "repository/deep/er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "repository/deep/er")
    return tmp_path / "repository/.modelctl.toml"


def test_a_projects_file_wins_by_key(project: Path) -> None:
    project.write_text('[regions.a]\nnamespace = "team"\n[regions.b]\nregistry = "b.example"\n')
    config = load_config()
    assert [(name, one.host, one.namespace, one.username) for name, one in config.regions.items()] == [
        ("a", "a.example", "team", "alice"),
        ("b", "b.example", "", ""),
    ]


def test_a_projects_cluster_keeps_the_users_image(project: Path) -> None:
    project.write_text('[clusters.prod]\nregion = "b"\n')
    assert load_config().cluster("prod") == ClusterSettings("b", "a.example/modelctl:1")


def test_a_projects_registry_gets_nothing_that_was_meant_for_the_users(project: Path) -> None:
    project.write_text('[regions.a]\nregistry = "evil.example"\n')
    assert load_config().region("a") == Region("evil.example")


@pytest.mark.parametrize("key", ["password_file", "authfile", "ca_file", "username", "password"])
def test_a_projects_file_may_not_say_who_the_user_is(project: Path, key: str) -> None:
    project.write_text(f'[regions.a]\n{key} = "x"\n')
    with pytest.raises(UsageProblem, match=rf"\.modelctl\.toml, \[regions\.a\]\n  why: line 2: {key}: .* may not"):
        load_config()


ACR = '[regions.a]\nacr = {instance_name = "m", region = "cn-beijing", instance_id = "cri-1"}\n'


def test_a_project_keeps_the_users_instance(project: Path, settings: Path) -> None:
    settings.write_text(ACR)
    project.write_text('[regions.a]\nnamespace = "team"\nacr = {instance_name = "m", region = "cn-beijing"}\n')
    assert load_config().region("a") == Region(acr=Acr("m", "cn-beijing", "cri-1"), namespace="team")


@pytest.mark.parametrize(
    "where", ['registry = "evil.example"', 'acr = {instance_name = "evil", region = "cn-beijing"}']
)
def test_a_projects_registry_gets_no_login_of_the_users_instance(project: Path, settings: Path, where: str) -> None:
    settings.write_text(ACR)
    project.write_text(f"[regions.a]\n{where}\n")
    acr = load_config().region("a").acr
    assert (acr.instance_id if acr else "") == ""


def test_a_projects_file_may_not_ask_for_logins(project: Path) -> None:
    project.write_text(ACR)
    with pytest.raises(UsageProblem, match=r"line 2: acr: .* instance_id"):
        load_config()


def test_an_instance_may_have_a_host_of_its_own(settings: Path) -> None:
    assert region(settings, 'registry = "models.example"\nacr = {instance_name = "m", region = "r"}').host == (
        "models.example"
    )


def test_a_projects_file_may_not_say_whom_to_trust(project: Path) -> None:
    project.write_text("[regions.a]\ninsecure = true\n")
    with pytest.raises(UsageProblem, match="insecure"):
        load_config()


def test_a_projects_file_may_not_read_the_environment(project: Path) -> None:
    project.write_text('[regions.a]\nregistry = "${HOME}.evil.example"\n')
    with pytest.raises(UsageProblem, match="environment"):
        load_config()


def test_outside_the_repository_no_file_is_looked_for(project: Path) -> None:
    (project.parents[1] / ".modelctl.toml").write_text("[regions.z]\nregistry = 'z.example'\n")
    assert list(load_config().regions) == ["a"]


def test_the_published_schema_is_that_of_the_code() -> None:
    published = Path(__file__).parents[2] / "docs/config.schema.json"
    assert published.read_text() == render_schema()


@pytest.mark.parametrize("text", [VALID, USERS])
def test_the_schema_takes_what_the_code_takes(text: str) -> None:
    jsonschema.validate(tomllib.loads(text), json.loads(render_schema()))


def test_the_schema_refuses_an_unknown_key() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"regions": {"a": {"registry": "a", "namespaces": "x"}}}, json.loads(render_schema()))


def test_a_working_directory_that_is_gone_is_one_error(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.write_text(VALID)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(NotFound, match="working directory"):
        load_config()
