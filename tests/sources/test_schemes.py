import subprocess
import sys
from pathlib import Path

import pytest

from modelctl.core.errors import UsageProblem
from modelctl.sources import open_source, source_names


def test_a_source_is_named_after_its_file() -> None:
    assert "file" in source_names()


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_folder_is_named_by_a_path_or_a_url(tmp_path: Path, prefix: str) -> None:
    (tmp_path / "a").write_bytes(b"a")
    assert [entry.path for entry in open_source(f"{prefix}{tmp_path}").list(lambda path: True)] == ["a"]


@pytest.mark.parametrize("url", ["s4://bucket/model", "FILE:///x", "__init__://x", "://x"])
def test_an_unknown_scheme_is_refused_with_those_that_are_known(url: str) -> None:
    with pytest.raises(UsageProblem, match="file://"):
        open_source(url)


def test_a_source_whose_sdk_is_missing_says_how_to_install_it() -> None:
    code = "import sys; sys.modules['huggingface_hub'] = None; from modelctl.sources import open_source; open_source('hf://b/x')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "try: pip install 'modelctl[hf]'" in found.stderr
