import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.errors import Invalid
from modelctl.core.paths import check_path
from modelctl.packing.crc32_list import MAX_LIST_SIZE, Crc32Line, parse_crc32_list, render_crc32_list

VARIANTS = {
    "one space": b"0123abcd a/b.json\n",
    "two spaces": b"0123abcd  a/b.json\n",
    "a tab": b"0123abcd\ta/b.json\n",
    "a leading ./": b"0123abcd ./a/b.json\n",
    "a star": b"0123abcd *a/b.json\n",
    "a star and ./": b"0123abcd *./a/b.json\n",
    "upper case": b"0123ABCD a/b.json\n",
    "CRLF": b"0123abcd a/b.json\r\n",
    "no newline at the end": b"0123abcd a/b.json",
    "a byte order mark": b"\xef\xbb\xbf0123abcd a/b.json\n",
    "blank lines": b"\n  \n0123abcd a/b.json\n\r\n",
    "the same line twice": b"0123abcd a/b.json\n0123abcd ./a/b.json\n",
    "a line for itself": b"00000000 crc32.txt\n0123abcd a/b.json\nffffffff ./crc32.txt\n",
}

BAD_LINES = {
    "no path": b"0123abcd",
    "only spaces for a path": b"0123abcd   ",
    "seven digits": b"123abcd a",
    "nine digits": b"00123abcd a",
    "no hex": b"0123abcg a",
    "no space": b"0123abcda",
    "a space in front": b" 0123abcd a",
    "0x": b"0x123abc a",
    "path first": b"a 0123abcd",
    "a comment": b"# crc32 path",
    "out of the folder": b"0123abcd ../a",
    "absolute": b"0123abcd /etc/passwd",
    "a control character": b"0123abcd a\x1bb",
    "modelctl's own": b"0123abcd .modelctl/files.json",
    "a deletion": b"0123abcd .wh.a",
}

ordinary = (
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
    .map(lambda text: "x" + text.replace("/", "_").replace("\\", "_"))
    .filter(lambda path: path != "crc32.txt")
)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_other_tools_write_is_read(variant: str) -> None:
    assert parse_crc32_list(VARIANTS[variant], "crc32.txt") == {"a/b.json": 0x0123ABCD}


def test_a_path_may_have_spaces() -> None:
    assert parse_crc32_list(b"00000001 a  b c.txt\n", "crc32.txt") == {"a  b c.txt": 1}


def test_a_path_may_be_outside_ascii() -> None:
    assert parse_crc32_list("00000001 模型/a.json\n".encode(), "crc32.txt") == {"模型/a.json": 1}


def test_an_empty_list_has_no_files() -> None:
    assert parse_crc32_list(b"", "crc32.txt") == {}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_refused_by_its_number(case: str) -> None:
    with pytest.raises(Invalid, match=r"sums\.txt, line 3"):
        parse_crc32_list(b"00000001 ok\n\n" + BAD_LINES[case] + b"\n", "sums.txt")


def test_a_file_with_two_sums_is_refused_with_both() -> None:
    with pytest.raises(Invalid, match=r"line 2\n  why: 'a' has two CRC-32s: 00000001 and 00000002"):
        parse_crc32_list(b"00000001 a\n00000002 ./a\n", "crc32.txt")


def test_a_list_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(Invalid, match="not UTF-8"):
        parse_crc32_list(b"00000001 caf\xe9\n", "crc32.txt")


def test_a_list_that_is_too_long_is_refused_and_not_cut() -> None:
    with pytest.raises(Invalid, match="longer than 67108864 bytes"):
        parse_crc32_list(b"\n" * (MAX_LIST_SIZE + 1), "crc32.txt")


def test_a_line_names_the_sum_and_the_path() -> None:
    assert render_crc32_list([Crc32Line("b", 0xAB), Crc32Line("a", 0)]) == "00000000 a\n000000ab b\n"


@given(sums=st.dictionaries(ordinary, st.integers(0, 2**32 - 1), max_size=5))
def test_a_rendered_list_is_read_back(sums: dict[str, int]) -> None:
    text = render_crc32_list(Crc32Line(path, value) for path, value in sums.items())
    assert parse_crc32_list(text.encode(), "crc32.txt") == sums


@given(
    data=st.binary(max_size=80) | st.text(max_size=40).map(lambda text: ("00000000 " + text).encode(errors="replace"))
)
def test_any_bytes_are_read_as_good_paths_or_refused(data: bytes) -> None:
    try:
        sums = parse_crc32_list(data, "crc32.txt")
    except Invalid:
        return
    for path in sums:
        check_path(path)
