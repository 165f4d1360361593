import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.errors import UsageProblem
from modelctl.core.types import Entry
from modelctl.packing.layout import load_layout
from modelctl.packing.plan import ALONE_FROM, PlannedLayer, plan_layers

IMAGE, RAW = load_layout("image"), load_layout("raw")

names = st.tuples(
    st.text("abc", min_size=1, max_size=4), st.sampled_from([".safetensors", ".json", ".py", ".md", ".gguf", ""])
).map("".join)
models = st.dictionaries(names, st.sampled_from([0, 10, ALONE_FROM - 1, ALONE_FROM, 5 << 30]), min_size=1)


def entries(files: dict[str, int]) -> list[Entry]:
    return [Entry(path=path, size=size) for path, size in files.items()]


def shards(count: int) -> list[Entry]:
    return entries({f"model-{number:05}-of-{count:05}.safetensors": 4 << 30 for number in range(1, count + 1)})


def paths(plan: list[PlannedLayer]) -> list[list[str]]:
    return [[entry.path for entry in layer.entries] for layer in plan]


def test_a_small_model_has_a_layer_a_shard_and_one_a_kind_of_small_files() -> None:
    files = ["README.md", "a.py", "b.safetensors", "a.safetensors", "tokenizer.json", "config.json", "LICENSE"]
    plan = plan_layers(entries(dict.fromkeys(files, 100)), IMAGE)
    assert paths(plan) == [
        ["a.safetensors"],
        ["b.safetensors"],
        ["config.json", "tokenizer.json"],
        ["a.py"],
        ["LICENSE", "README.md"],
    ]


def test_a_file_of_16_mib_has_a_layer_of_its_own() -> None:
    plan = plan_layers(entries({"a.json": 10, "b.json": ALONE_FROM, "c.json": ALONE_FROM - 1}), IMAGE)
    assert paths(plan) == [["b.json"], ["a.json", "c.json"]]


def test_weights_come_before_other_large_files() -> None:
    plan = plan_layers(entries({"a.json": ALONE_FROM, "z.safetensors": 10, "a.md": ALONE_FROM}), IMAGE)
    assert paths(plan) == [["z.safetensors"], ["a.json"], ["a.md"]]


def test_paths_are_sorted_by_their_bytes() -> None:
    plan = plan_layers(entries(dict.fromkeys(["é.md", "z.md", "Z.md", "\uffff.md", "\U00010000.md"], 1)), IMAGE)
    assert paths(plan) == [["Z.md", "z.md", "é.md", "\uffff.md", "\U00010000.md"]]


def test_163_shards_fit_into_110_layers() -> None:
    plan = plan_layers([*shards(163), *entries({"config.json": 1, "README.md": 1})], IMAGE, 110)
    assert [len(layer.entries) for layer in plan] == [2] * 81 + [1] * 3


def test_neighbours_that_share_a_layer_stay_in_order() -> None:
    plan = plan_layers(shards(5), IMAGE, 4)
    assert paths(plan) == [[entry.path for entry in shards(5)[at : at + 2]] for at in (0, 2, 4)]


def test_no_shard_shares_a_layer_as_long_as_all_fit() -> None:
    assert [len(layer.entries) for layer in plan_layers(shards(109), IMAGE, 110)] == [1] * 109


def test_the_table_counts_as_a_layer() -> None:
    assert len(plan_layers(shards(110), IMAGE, 110)) <= 109


def test_too_few_layers_are_refused_with_how_many_more_are_needed() -> None:
    files = entries({"a.safetensors": 1, "b.json": 1, "c.py": 1, "d.md": 1})
    with pytest.raises(UsageProblem, match="--max-layers is too small") as refused:
        plan_layers(files, IMAGE, 3)
    assert refused.value.hint == "allow 2 more"


def test_what_the_refusal_asks_for_is_enough() -> None:
    files = entries({"a.safetensors": 1, "b.json": 1, "c.py": 1, "d.md": 1})
    assert len(plan_layers(files, IMAGE, 5)) == 4


@pytest.mark.parametrize("count", [1, 500])
def test_a_raw_layer_holds_one_file_whatever_the_limit(count: int) -> None:
    assert [len(layer.entries) for layer in plan_layers(shards(count), RAW, 2)] == [1] * count


@given(files=models)
def test_raw_has_a_layer_a_file(files: dict[str, int]) -> None:
    assert len(plan_layers(entries(files), RAW)) == len(files)


@given(files=models)
def test_image_and_modelpack_plan_alike(files: dict[str, int]) -> None:
    assert plan_layers(entries(files), IMAGE) == plan_layers(entries(files), load_layout("modelpack"))


@given(files=models, layout=st.sampled_from(["image", "modelpack", "raw", "kserve"]))
def test_every_file_is_placed_once(files: dict[str, int], layout: str) -> None:
    placed = [path for layer in paths(plan_layers(entries(files), load_layout(layout))) for path in layer]
    assert sorted(placed) == sorted(files)


@given(files=models, order=st.randoms(use_true_random=False))
def test_the_order_of_the_listing_does_not_matter(files: dict[str, int], order: object) -> None:
    shuffled = entries(files)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan_layers(shuffled, IMAGE) == plan_layers(entries(files), IMAGE)


@given(files=models, limit=st.integers(12, 40))
def test_a_plan_and_its_table_fit_into_the_limit(files: dict[str, int], limit: int) -> None:
    assert len(plan_layers(entries(files), IMAGE, limit)) + 1 <= limit


def test_a_prefix_is_part_of_the_names_in_a_layer() -> None:
    (layer,) = plan_layers(entries({"a.json": 1}), load_layout("kserve"))
    assert [member.path for member in layer.members] == ["models/a.json"]


def test_a_layer_is_called_by_its_file_or_its_kind() -> None:
    plan = plan_layers(entries({"a.safetensors": 1, "a.json": 1, "b.json": 1}), IMAGE)
    assert [layer.title for layer in plan] == ["a.safetensors", "2 config files"]
