"""Small real models, made byte by byte: what tests pack."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path


def shard(tensors: dict[str, bytes]) -> bytes:
    """Return a safetensors file of one-dimensional U8 tensors, in the order given."""
    header: dict[str, object] = {}
    position = 0
    for name, data in tensors.items():
        end = position + len(data)
        header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [position, end]}
        position = end
    return headed(json.dumps(header).encode(), b"".join(tensors.values()))


def headed(header: bytes, data: bytes = b"") -> bytes:
    """Return `header` as a safetensors file starts with it: its length, itself, and then `data`."""
    return struct.pack("<Q", len(header)) + header + data


def noise(size: int, seed: object) -> bytes:
    """Return `size` bytes that look random and are the same for the same `seed` everywhere."""
    return hashlib.shake_256(repr(seed).encode()).digest(size)


def write_model(folder: Path, shards: int = 4, size: int = 100_000, seed: int = 0) -> Path:
    """Write a model of `shards` shards whose tensors have about `size` bytes each shard; the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    for number in range(1, shards + 1):
        file = f"model-{number:05}-of-{shards:05}.safetensors"
        tensors = {
            f"layers.{number}.up": noise(size // 2, (seed, number, "up")),
            f"layers.{number}.down": noise(size - size // 2, (seed, number, "down")),
        }
        (folder / file).write_bytes(shard(tensors))
        weight_map |= dict.fromkeys(tensors, file)
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": shards * size}, "weight_map": weight_map},
    )
    write_json(folder / "config.json", {"architectures": ["TestForCausalLM"], "hidden_size": 64, "seed": seed})
    write_json(folder / "tokenizer.json", {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}})
    (folder / "README.md").write_text(f"# A model of {shards} shards\n", encoding="utf-8")
    return folder


def write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
