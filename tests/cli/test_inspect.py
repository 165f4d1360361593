"""What `inspect` prints of what is attached."""

from __future__ import annotations

import json
from pathlib import Path

from modelctl.core.types import Origin
from modelctl.flows.attached import attach_provenance
from modelctl.packing.provenance import Options, Provenance
from modelctl.registry.ocidir import OciDir
from tests.cli.program import run
from tests.models import write_model
from tests.stores import pack_model

MADE = Provenance(
    origin=Origin(url="hf://Qwen/Qwen3-8B", revision="c" * 40),
    options=Options(layouts=("image",), max_layers=110),
    files=(),
    version="1.2.3",
)


def test_provenance_is_told_in_text_and_json(tmp_path: Path) -> None:
    pack_model(write_model(tmp_path / "model", shards=1, size=100), tmp_path / "store", provenance=False)
    layout = OciDir(tmp_path / "store")
    attach_provenance(layout, layout.resolve("v1"), MADE)
    place = f"oci:{tmp_path}/store:v1"
    (told,) = json.loads(run("inspect", place, "-o", "json").stdout)["attached"]

    assert (told["source"], told["revision"]) == ("hf://Qwen/Qwen3-8B", "c" * 40)
    assert (
        f"{told['digest']}  {told['size']} B  application/vnd.in-toto+json\n    made from hf://Qwen/Qwen3-8B at "
        + ("c" * 40 + " by modelctl 1.2.3\n")
        in run("inspect", place).stdout
    )
