from pathlib import Path

import pytest

from modelctl.core.errors import NotFound, UsageProblem
from modelctl.packing.layout import Layout, layout_names, load_layout, parse_layout

SHIPPED = ["image", "kserve", "modelpack", "raw"]

FILES = {
    "model-00001-of-00002.safetensors": "weight",
    "onnx/model.onnx": "weight",
    "q4.gguf": "weight",
    "pytorch_model.bin": "weight",
    "config.json": "config",
    "model.safetensors.index.json": "config",
    "tokenizer.model": "config",
    "vocab.txt": "config",
    "chat_template.jinja": "config",
    "modeling_x.py": "code",
    "sub/kernel.cu": "code",
    "README.md": "doc",
    "LICENSE": "doc",
    "crc32.txt": "doc",
    "图.png": "doc",
}

OPTIONAL = 'artifact_type = "application/x"'

VALID = f"""
name        = "mine"
config_type = "application/vnd.oci.image.config.v1+json"
table_type  = "application/vnd.oci.image.layer.v1.tar"
{OPTIONAL}

[[layer]]
kind       = "weight"
match      = ["*.safetensors"]
form       = "tar"
media_type = "application/vnd.oci.image.layer.v1.tar"

[[layer]]
kind       = "doc"
match      = ["*"]
form       = "raw"
media_type = "application/x.raw"
"""

INVALID = {
    "unknown key": (f"{OPTIONAL}\nartefact_type = 1", OPTIONAL, ["line 6", "artefact_type"]),
    "unknown key of a layer": ('form       = "raw"\nfrom = "raw"', 'form       = "raw"', ["line 17", "from"]),
    "wrong type": ("artifact_type = true", OPTIONAL, ["line 5", "artifact_type", "bool"]),
    "wrong type in a layer": ('match      = "*"', 'match      = ["*"]', ["line 15", "match", "array"]),
    "unknown kind": ('kind       = "docs"', 'kind       = "doc"', ["line 14", "kind", "docs"]),
    "unknown form": ('form       = "zip"', 'form       = "raw"', ["line 16", "form", "zip"]),
    "missing key": ("", 'name        = "mine"\n', ["name", "missing"]),
    "missing key of a layer": ("", 'form       = "raw"\n', ["line 13", "form", "missing"]),
    "syntax": ("artifact_type = tru", OPTIONAL, ["line 5"]),
    "a key twice": (f"{OPTIONAL}\n{OPTIONAL}", OPTIONAL, ["line 6"]),
    "prefix without its slash": (
        f'{OPTIONAL}\nprefix = "models"',
        OPTIONAL,
        ["line 6", "end in '/'"],
    ),
    "prefix out of the tree": (f'{OPTIONAL}\nprefix = "../"', OPTIONAL, ["line 6", "'..'"]),
    "absolute prefix": (f'{OPTIONAL}\nprefix = "/"', OPTIONAL, ["line 6", "prefix"]),
    "media type of another form": ('media_type = "x.tar"', 'media_type = "application/x.raw"', ["line 17", ".raw"]),
    "table that is no tar": (
        'table_type  = "x.raw"',
        'table_type  = "application/vnd.oci.image.layer.v1.tar"',
        ["line 4"],
    ),
}


def broken(case: str) -> str:
    new, old, _ = INVALID[case]
    assert VALID.count(old) == 1
    return VALID.replace(old, new)


def rules_but_for_form(layout: Layout) -> list[tuple[object, ...]]:
    return [(rule.kind, rule.match) for rule in layout.layer]


def test_the_shipped_layouts_are_these() -> None:
    assert layout_names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_layout_is_named_after_its_file(name: str) -> None:
    assert load_layout(name).name == name


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("path", FILES)
def test_every_shipped_layout_takes_a_file_for_the_same_kind(name: str, path: str) -> None:
    assert load_layout(name).rule(path).kind == FILES[path]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_layout_has_the_same_globs(name: str) -> None:
    assert rules_but_for_form(load_layout(name)) == rules_but_for_form(load_layout("image"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_layout_leaves_out_the_same_files(name: str) -> None:
    assert load_layout(name).exclude == load_layout("image").exclude


def test_only_kserve_has_a_prefix() -> None:
    assert {name: load_layout(name).prefix for name in SHIPPED if load_layout(name).prefix} == {"kserve": "models/"}


def test_the_first_rule_that_matches_decides() -> None:
    assert parse_layout(VALID).rule("a.safetensors").kind == "weight"


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_layout_is_refused_with_its_line_and_key(case: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        parse_layout(broken(case))
    assert [word for word in INVALID[case][2] if word not in refused.value.why] == []


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "layer = []", "\0"])
def test_a_hopeless_layout_is_refused(text: str) -> None:
    with pytest.raises(UsageProblem):
        parse_layout(text)


def test_a_layout_without_rules_is_refused() -> None:
    with pytest.raises(UsageProblem, match="no \\[\\[layer\\]\\]"):
        parse_layout(VALID.partition("[[layer]]")[0] + "layer = []")


def test_a_file_that_no_rule_matches_is_refused() -> None:
    layout = parse_layout(VALID.replace('["*"]', '["*.md"]'))
    with pytest.raises(UsageProblem, match=r"a\.txt: no layer for this file"):
        layout.rule("a.txt")


def test_a_layout_can_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(VALID)
    assert load_layout(str(tmp_path / "mine.toml")).name == "mine"


def test_an_invalid_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(broken("unknown key"))
    with pytest.raises(UsageProblem, match=r"mine\.toml"):
        load_layout(str(tmp_path / "mine.toml"))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(UsageProblem, match="not UTF-8"):
        load_layout(str(tmp_path / "mine.toml"))


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"mine\.toml"):
        load_layout(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("name", ["nope", "", "../layouts/image", "IMAGE"])
def test_an_unknown_name_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(UsageProblem, match="image, kserve, modelpack, raw"):
        load_layout(name)
