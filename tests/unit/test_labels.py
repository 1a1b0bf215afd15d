"""Labels are joined by (source, frame index), drawn by whole episodes, and checked when they are read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_lite.data.labels import Labels, join, join_labels, read_labels, write_labels
from genie_lite.errors import UserError


def labels(lengths: dict[str, int]) -> Labels:
    """Discrete labels of some episodes; the action is the frame index modulo 3."""
    index = np.concatenate([np.arange(length) for length in lengths.values()])
    sources = np.repeat(list(lengths), list(lengths.values()))
    return Labels(sources, index, index % 3, "discrete", ("left", "stay", "right"))


def test_discrete_round_trip_sorts_rows(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "labels.parquet"
    write_labels(path, ["b", "a", "a"], [7, 1, 0], [2, 0, 1], kind="discrete", names=["x", "y", "z"])
    read = read_labels(path)
    assert (read.kind, read.names, read.num_actions) == ("discrete", ("x", "y", "z"), 3)
    assert list(zip(read.sources, read.frame_index, read.action, strict=True)) == [
        ("a", 0, 1),
        ("a", 1, 0),
        ("b", 7, 2),
    ]
    assert [each.name for each in path.parent.iterdir()] == ["labels.parquet"]


def test_continuous_round_trip(tmp_path: Path) -> None:
    action = np.array([[0.5, -1.0], [2.0, 3.0]], dtype=np.float32)
    write_labels(tmp_path / "l.parquet", ["a", "a"], [0, 1], action, kind="continuous", names=["hip", "knee"])
    read = read_labels(tmp_path / "l.parquet")
    assert np.array_equal(read.action, action)
    found = read.lookup("a", 1)
    assert found is not None
    assert found.tolist() == [2.0, 3.0]


def test_lookup_finds_only_its_own_frame() -> None:
    some = labels({"a": 3, "b": 2})
    assert some.lookup("b", 1) == 1
    assert some.lookup("b", 2) is None
    assert some.lookup("c", 0) is None


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), unique=True, max_size=12),
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 8)), max_size=12),
)
def test_join_agrees_with_a_dictionary(known: list[tuple[str, int]], wanted: list[tuple[str, int]]) -> None:
    rows = {pair: row for row, pair in enumerate(known)}

    def columns(pairs: list[tuple[str, int]]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([name for name, _ in pairs], dtype=str), np.array([i for _, i in pairs], dtype=int)

    assert join(*columns(known), *columns(wanted)).tolist() == [rows.get(pair, -1) for pair in wanted]


def test_budget_is_exact_nested_and_made_of_whole_episodes() -> None:
    some = labels({"a": 5, "b": 6, "c": 7})
    small, large = some.budget(8, seed=1), some.budget(15, seed=1)
    assert (len(small), len(large)) == (8, 15)
    assert set(zip(small.sources, small.frame_index, strict=True)) <= set(
        zip(large.sources, large.frame_index, strict=True)
    )
    counts = {name: int((large.sources == name).sum()) for name in large.episodes}
    cut = [name for name, count in counts.items() if count != {"a": 5, "b": 6, "c": 7}[name]]
    assert len(cut) == 1
    assert large.of(cut).frame_index.tolist() == list(range(counts[cut[0]])), "cut at the end, not inside"


def test_budget_depends_on_the_seed_only() -> None:
    some = labels({name: 4 for name in "abcdefgh"})
    assert some.budget(4, 0).sources.tolist() == some.budget(4, 0).sources.tolist()
    assert len({some.budget(4, seed).sources[0] for seed in range(20)}) > 1


def test_too_large_a_budget_warns_and_takes_everything() -> None:
    with pytest.warns(
        UserWarning, match=r"adapt\.labels_budget: found 9, but only 3 labelled transitions exist"
    ):
        assert len(labels({"a": 3}).budget(9, 0, "adapt.labels_budget")) == 3


def test_whole_episodes_can_be_asked_for() -> None:
    some = labels({"a": 5, "b": 6, "c": 7})
    assert len(some.budget_episodes(2, 0).episodes) == 2
    assert some.budget_episodes(3, 0).frame_index.shape == (18,)
    with pytest.raises(
        UserError, match=r"lam\.episodes: found 4, expected at least 1 and at most the 3 labelled ep"
    ):
        some.budget_episodes(4, 0, "lam.episodes")
    with pytest.raises(UserError, match=r"lam\.budget: found 0, expected at least 1 transition"):
        some.budget(0, 0, "lam.budget")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": [0, 5]}, "actions from 0 to 5, expected 0 to 1"),
        ({"frame_index": [3, 3]}, "frame 3 of a is labelled twice"),
        ({"action": [0]}, "2 sources, 2 frames, 1 actions"),
    ],
)
def test_wrong_columns_are_refused(tmp_path: Path, change: dict[str, list[int]], message: str) -> None:
    columns = {"frame_index": [0, 1], "action": [0, 1]} | change
    with pytest.raises(UserError, match=message):
        write_labels(
            tmp_path / "l.parquet",
            ["a", "a"],
            columns["frame_index"],
            columns["action"],
            kind="discrete",
            names=["x", "y"],
        )


def test_an_infinite_action_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 1"):
        write_labels(
            tmp_path / "l", ["a", "a"], [0, 1], np.array([[0.0], [np.nan]]), kind="continuous", names=["x"]
        )


def test_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such label file"):
        read_labels(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read_labels(tmp_path / "text.parquet")
    pq.write_table(pa.table({"source": ["a"], "frame_index": [0], "action": [0]}), tmp_path / "bare.parquet")
    with pytest.raises(UserError, match="not a label file"):
        read_labels(tmp_path / "bare.parquet")


def test_labels_of_several_places_become_one_in_order() -> None:
    whole = join_labels([labels({"b": 2}), labels({"a": 3})])
    assert list(zip(whole.sources, whole.frame_index, strict=True)) == [
        ("a", 0),
        ("a", 1),
        ("a", 2),
        ("b", 0),
        ("b", 1),
    ]


def test_a_frame_that_two_places_label_is_named() -> None:
    with pytest.raises(UserError, match="labels of 2 places: frame 0 of a is labelled twice"):
        join_labels([labels({"a": 3, "b": 2}), labels({"a": 1})])


def test_places_that_name_other_actions_do_not_join() -> None:
    one = labels({"a": 3})
    other = Labels(np.array(["b"]), np.array([0]), np.array([0]), "discrete", ("up", "down"))
    with pytest.raises(UserError, match=r"\['left', 'stay', 'right'\], another \['up', 'down'\]"):
        join_labels([one, other])


INTEGERS = {"kind": "discrete", "names": ["left", "right"]}


@pytest.mark.parametrize(
    ("about", "columns", "said"),
    [
        ("{", {}, "not a label file"),
        ("[]", {}, "not a label file"),
        (json.dumps(INTEGERS | {"names": 3}), {}, "not a label file"),
        (json.dumps(INTEGERS), {"action": ["left"]}, "action is string; expected int64 and int64"),
        (json.dumps(INTEGERS), {"frame_index": ["first"]}, "frame_index is string"),
        (json.dumps(INTEGERS), {"frame_index": [-1]}, "frame -1 of a video"),
        (json.dumps(INTEGERS), {"frame_index": pa.array([None], pa.int64())}, "1 rows have no frame_index"),
        (json.dumps(INTEGERS), {"source": pa.array([None], pa.string())}, "1 rows have no source"),
        (json.dumps(INTEGERS | {"kind": "continuous"}), {}, "expected int64 and list<float32>"),
        (json.dumps(INTEGERS | {"kind": "continuous"}), {"action": [["a", "b"]]}, "expected int64 and list"),
    ],
)
def test_a_damaged_file_is_told_in_one_line(
    about: str, columns: dict[str, Any], said: str, tmp_path: Path
) -> None:
    table = pa.table({"source": ["a"], "frame_index": [0], "action": [0]} | columns)
    path = tmp_path / "labels.parquet"
    pq.write_table(table.replace_schema_metadata({"genie_lite": about}), path)
    with pytest.raises(UserError, match=said) as error:
        read_labels(path)
    assert "\n" not in str(error.value)
