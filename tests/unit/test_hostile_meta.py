"""Shards whose samples say of their frames what cannot be: whoever reads them says so in a line, or goes on without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_lite.adapt.footage import load_footage
from genie_lite.data.labels import Labels
from genie_lite.data.loading.loader import train_loader
from genie_lite.data.loading.mixture import Corpora
from genie_lite.data.loading.windows import LoaderConfig
from genie_lite.data.shards.index import index_of
from genie_lite.data.shards.shards import Sample, ShardDamage, ShardSet, ShardWriter
from genie_lite.errors import UserError
from genie_lite.evals.transitions import label_transitions
from genie_lite.files import write_json
from genie_lite.train.config import LabelsConfig
from genie_lite.train.label_shots import read_shots
from tests import models
from tests.footage import write_shards

SOUND, HOSTILE = "train-000000.tar", "train-000001.tar"
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "no source": ({"source": ...}, "source: found None, expected a name"),
    "source of another kind": ({"source": 7}, "source: found 7, expected a name"),
    "no frames": ({"source_frames": ...}, "source_frames: found None, expected one entry per frame"),
    "too few frames": ({"source_frames": [0]}, "source_frames: found 1 entries, expected one for each of"),
    "frames of another kind": ({"source_frames": {"0": 0}}, "source_frames: found {'0': 0}, expected"),
    "times of another kind": ({"times_s": "soon"}, "times_s: found 'soon', expected one entry per frame"),
    "a rate of another kind": ({"source_rate_hz": "30"}, "source_rate_hz: found '30', expected frames per"),
}
SAYS_NOTHING = ({"split": ..., "times_s": ..., "source_rate_hz": ...}, "")


def shards_with(folder: Path, changes: dict[str, Any]) -> ShardSet:
    """Two shards; the last shot of the second says something else, with the right checksums."""
    before = write_shards(folder, ("train", "train"))
    samples = before.read(before.shards[1])
    for name, value in changes.items():
        samples[-1].meta.pop(name, None)
        samples[-1].meta.update({} if value is ... else {name: value})
    with ShardWriter(folder, "train", 1) as writer:
        for sample in samples:
            writer.add(sample)
        shard = writer.close()
    assert shard is not None
    write_json(folder / "shards.json", index_of([before.shards[0], shard], before.config))
    return ShardSet.open(folder)


def labels_of(shards: ShardSet) -> Labels:
    """A vector for every frame of the first shard."""
    samples = shards.read(shards.shards[0])
    native = [np.asarray(sample.meta["source_frames"]) for sample in samples]
    sources = np.concatenate(
        [np.full(len(n), s.meta["source"]) for s, n in zip(samples, native, strict=True)]
    )
    return Labels(
        sources, np.concatenate(native), np.zeros((len(sources), 1), np.float32), "continuous", ("x",)
    )


@pytest.mark.parametrize(("changes", "said"), CHANGES.values(), ids=CHANGES)
def test_it_is_found_where_a_shard_is_read_and_named_with_a_reason(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    shards = shards_with(tmp_path / "shards", changes)
    with pytest.raises(ShardDamage) as caught:
        shards.read(shards.shards[1])
    assert caught.value.file == HOSTILE
    assert caught.value.reason.startswith(f"sample train-1-1: {said}")
    assert len(shards.read(shards.shards[0])) == 2


def test_what_need_not_be_said_is_not_asked_for(tmp_path: Path) -> None:
    shards = shards_with(tmp_path / "shards", SAYS_NOTHING[0])
    samples = shards.read(shards.shards[1])
    assert samples[-1].meta["split"] == "train", "that of its shard"
    assert load_footage(samples).split.tolist() == ["train"] * sum(s.meta["num_frames"] for s in samples)


READERS: dict[str, Callable[[ShardSet], object]] = {
    "footage": lambda shards: load_footage(shards.samples("train")),
    "transitions": lambda shards: label_transitions(models.lam(), shards.samples("train"), labels_of(shards)),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_who_needs_all_shots_stops_with_a_line(read: Callable[[ShardSet], object], tmp_path: Path) -> None:
    shards = shards_with(tmp_path / "shards", {"source_frames": ...})
    with pytest.raises(
        UserError, match=rf"{HOSTILE}: cannot be used \(sample train-1-1: source_frames: found None"
    ):
        read(shards)


def test_training_goes_on_without_the_shard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shards = shards_with(tmp_path / "shards", {"source": 7})
    pair = LoaderConfig(clip_frames=2, batch=2)
    loader = train_loader(shards, pair, 0)
    seen = {clip.source[0] for clip, _ in zip(loader, range(12), strict=False)}
    assert seen
    assert all(name.startswith("train-0-") for name in seen)
    labels = labels_of(shards)
    shots = read_shots(Corpora.of(shards), [("arm", labels)], pair, LabelsConfig(budget=4), 0, strict=False)
    assert shots
    assert "its labels are left out" in caplog.text
    with pytest.raises(ShardDamage):
        read_shots(Corpora.of(shards), [("arm", labels)], pair, LabelsConfig(budget=4), 0, strict=True)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_more_frames_than_a_sample_says_are_no_rows_out_of_step(
    read: Callable[[ShardSet], object], tmp_path: Path
) -> None:
    shards = write_shards(tmp_path / "shards", ("train",))
    first, *rest = shards.read(shards.shards[0])
    num = first.meta["num_frames"] - 1
    changed = {"num_frames": num, "source_frames": first.meta["source_frames"][:num]}
    times = {"times_s": first.meta["times_s"][:num]} if "times_s" in first.meta else {}
    with ShardWriter(shards.folder, "train", 0) as writer:
        for sample in (Sample(first.key, first.mp4, first.meta | changed | times), *rest):
            writer.add(sample)
        shard = writer.close()
    assert shard is not None
    write_json(shards.folder / "shards.json", index_of([shard], shards.config))
    with pytest.raises(UserError, match=rf"sample train-0-0: {num + 1} frames, its json says {num}"):
        read(ShardSet.open(shards.folder))
