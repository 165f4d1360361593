import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.errors import Invalid
from modelctl.core.paths import check_path, check_paths, selected

REFUSED = {
    "": "component",
    "/etc/passwd": "absolute",
    "../x": "'..'",
    "a/../x": "'..'",
    "..": "'..'",
    "./a": "'.'",
    "a/.": "'.'",
    "a//b": "empty",
    "a/": "empty",
    "a\nb": "control character",
    "a\0b": "control character",
    "a\x1b[31mb": "control character",
    "a\x7fb": "control character",
    "a\x85b": "control character",
    "a\\b": "backslash",
    "caf\udce9.md": "not valid UTF-8",
    ".wh.x": "deletion",
    "a/.wh..wh..opq": "deletion",
    ".modelctl": "modelctl's own",
    ".modelctl/files.json": "modelctl's own",
    ".modelctl.unfinished/x": "modelctl's own",
    ".ModelCtl/files.json": "modelctl's own",
    "x" * 256: "a component is longer than 255 bytes",
    "é" * 128: "a component is longer than 255 bytes",
    "/".join(["x" * 200] * 21): "it is longer than 4096 bytes",
}

ACCEPTED = [
    "a",
    "a/b/c.json",
    "x" * 255,
    "é" * 127,
    "模型/权重.safetensors",
    " leading and trailing ",
    "...",
    "..a",
    "a/.modelctl",
    ".gitattributes",
    "wh.x",
    "/".join(["x" * 255] * 16),
]

CLASHES = [
    ("README.md", "readme.md"),
    ("A/b", "a/B"),
    ("caf\u00e9", "cafe\u0301"),
    ("\u00c9", "e\u0301"),
    ("STRASSE", "straße"),
    ("same", "same"),
]


@pytest.mark.parametrize("path", REFUSED)
def test_a_name_that_is_not_the_same_file_everywhere_is_refused(path: str) -> None:
    with pytest.raises(Invalid):
        check_path(path)


@pytest.mark.parametrize("path", REFUSED)
def test_the_refusal_of_a_name_says_what_is_wrong_with_it(path: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_path(path)
    assert REFUSED[path] in refused.value.why


@pytest.mark.parametrize("path", REFUSED)
def test_the_refusal_of_a_name_is_safe_to_print(path: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_path(path)
    assert refused.value.what.isprintable()


@pytest.mark.parametrize("path", ACCEPTED)
def test_an_ordinary_name_is_accepted(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize("names", CLASHES)
def test_two_names_of_one_file_are_refused_together(names: tuple[str, str]) -> None:
    with pytest.raises(Invalid) as refused:
        check_paths(names)
    assert all(repr(name) in refused.value.what for name in names)


def test_a_file_that_is_also_a_folder_is_refused() -> None:
    with pytest.raises(Invalid, match="'a/b' and 'a/b/c'"):
        check_paths(["a/b/c", "a/b"])


def test_a_file_that_is_a_folder_by_another_case_is_refused() -> None:
    with pytest.raises(Invalid, match="'A' and 'a/b'"):
        check_paths(["A", "a/b"])


def test_names_that_only_start_alike_are_accepted() -> None:
    check_paths(["a", "ab", "a.b", "a-b/c", "b/a"])


@given(path=st.text(max_size=40))
def test_any_text_is_accepted_or_refused_in_one_way(path: str) -> None:
    parts = path.split("/")
    try:
        check_path(path)
    except Invalid:
        return
    assert not {"", ".", ".."} & set(parts)


@pytest.mark.parametrize(
    ("path", "include", "exclude", "wanted"),
    [
        ("a.md", [], [], True),
        ("a.md", ["*.json"], [], False),
        ("a.json", ["*.json"], [], True),
        ("b/a.json", ["*.json"], [], True),
        ("a.json", ["*.json"], ["a*"], False),
        ("a.md", [], ["*.MD"], True),
    ],
)
def test_include_and_exclude_select_by_glob(path: str, include: list[str], exclude: list[str], wanted: bool) -> None:
    assert selected(path, include, exclude) is wanted
