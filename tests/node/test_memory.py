from pathlib import Path

import pytest

from modelctl.node.memory import memory_limit


@pytest.mark.parametrize(
    ("name", "text", "limit"),
    [
        ("memory.max", "4294967296\n", 4 << 30),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "4294967296\n", 4 << 30),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
    ],
)
def test_the_limit_is_the_cgroups(tmp_path: Path, name: str, text: str, limit: int | None) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == limit


def test_without_cgroups_there_is_none(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None
