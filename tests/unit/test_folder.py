"""What belongs to a run: all of its labels, under the names that its videos were ingested by."""

from pathlib import Path

from genie_lite.data.sources import find_sources
from genie_lite.folder import labels_of, sources_of
from genie_lite.recipe import load_recipe
from tests.lerobot_fixture import write_lerobot

TOY = Path(__file__).parents[2] / "recipes" / "toy" / "demo.yaml"


def test_robots_that_are_held_out_bring_their_labels(tmp_path: Path) -> None:
    """Both datasets call their videos the same: each label must find its own, by the name ingest gives it."""
    learnt = write_lerobot(tmp_path / "learnt", num_episodes=2)
    write_lerobot(tmp_path / "tested", num_episodes=1, num_frames=9)
    recipe = load_recipe(
        TOY,
        ["record=null", f"data.source={tmp_path / 'learnt'}", f"data.test_source={tmp_path / 'tested'}"],
    )
    labels = labels_of(recipe)
    assert set(labels.episodes) == {source.name for source in find_sources(*sources_of(recipe), 0.0)}
    lengths = {name: len(labels.of([name])) for name in labels.episodes}
    assert sorted(lengths.values()) == [9, 12, 12]
    assert {name.split("/")[0] for name, length in lengths.items() if length == 9} == {"tested"}
    second = sorted(learnt)[1]
    assert (labels.of([second]).action == learnt[second]).all()
