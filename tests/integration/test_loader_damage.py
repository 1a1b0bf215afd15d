"""What happens to training when shards change, or loading processes die, after everything was checked."""

import os
import signal
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from genie_lite.data.loading.loader import Clip, LoaderConfig, train_loader, validation_clips, worker_death
from genie_lite.data.loading.windows import Share
from genie_lite.data.shards.shards import Sample, ShardSet
from genie_lite.errors import UserError
from tests.training import write_shards

CONFIG = LoaderConfig(clip_frames=4, batch=3, shuffle_shards=2, cache_gb=0.0)


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    return write_shards(tmp_path / "shards")


def keys(clips: list[Clip]) -> list[str]:
    return [key for clip in clips for key in clip.key]


def cut_short(shards: ShardSet, number: int) -> str:
    """Truncate a shard in the middle of its second sample."""
    file = shards.of("train")[number].file
    path = shards.folder / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return file


def break_video(shards: ShardSet, number: int) -> str:
    """Overwrite the video of a shard's first sample, and nothing else."""
    path = shards.folder / shards.of("train")[number].file
    with tarfile.open(path) as tar:
        member = next(iter(tar))
    with path.open("r+b") as file:
        file.seek(member.offset_data)
        file.write(bytes(member.size))
    return path.name


@pytest.mark.parametrize("damage", [cut_short, break_video])
def test_windows_that_cannot_be_read_are_replaced_and_counted(
    shards: ShardSet, damage, caplog: pytest.LogCaptureFixture
) -> None:
    expected = list(islice(train_loader(shards, CONFIG, 0), 20))
    file = damage(shards, 1)
    loader = train_loader(shards, CONFIG, 0)
    found = list(islice(loader, 20))
    lost = [key for key in keys(expected) if key not in set(keys(found))]
    assert lost
    assert {key for key in lost if not key.startswith("train-1")} == set()
    assert all(
        here == there or there in lost for here, there in zip(keys(found), keys(expected), strict=True)
    )
    told = [record.getMessage() for record in caplog.records if file in record.getMessage()]
    assert len(told) == 1
    assert "other windows stand in" in told[0]
    assert loader.replaced == {f"{shards.place}: {file}": len(lost)}


@pytest.mark.parametrize("damage", [cut_short, break_video])
def test_what_stands_in_depends_on_nothing_but_the_damage(shards: ShardSet, damage) -> None:
    """Neither on loading processes, nor on when the damage was noticed, nor on a resume."""
    damage(shards, 0)
    damage(shards, 2)
    whole = train_loader(shards, CONFIG, 0)
    expected = list(islice(whole, 12))
    by_two = list(islice(train_loader(shards, CONFIG.model_copy(update={"num_workers": 2}), 0), 12))
    later = train_loader(shards, CONFIG, 0)
    later.load_state_dict({"windows": 6 * 3, "of": whole.state_dict()["of"]})
    assert keys(by_two) == keys(expected)
    assert keys(list(islice(later, 6))) == keys(expected[6:])


def test_a_whole_group_that_is_damaged_does_not_fall_on_one_window(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "many", num_train=6)
    config = CONFIG.model_copy(update={"shuffle_shards": 1, "batch": 1})
    cut_short(shards, 3)
    loader = train_loader(shards, config, 0)
    clips = list(islice(loader, 18))  # an epoch: nine and seven frames give two windows and one
    (count,) = loader.replaced.values()
    assert count == 3
    found = [(clip.key[0], clip.start[0]) for clip in clips]
    assert max(found.count(place) for place in found) == 2


@pytest.mark.parametrize("num_workers", [0, 1])
def test_strict_stops_in_one_line(shards: ShardSet, num_workers: int) -> None:
    file = cut_short(shards, 1)
    config = CONFIG.model_copy(update={"strict": True, "num_workers": num_workers})
    with pytest.raises(UserError, match=file) as told:
        list(islice(train_loader(shards, config, 0), 20))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_nothing_left_to_read_stops_in_one_line(shards: ShardSet, num_workers: int) -> None:
    for number in range(3):
        cut_short(shards, number)
    config = CONFIG.model_copy(update={"num_workers": num_workers})
    with pytest.raises(UserError, match="no window can be read any more") as told:
        next(iter(train_loader(shards, config, 0)))
    assert "\n" not in str(told.value)


def test_held_out_clips_that_cannot_be_read_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shards = write_shards(tmp_path / "shards", num_test=2)
    whole = validation_clips(shards, "test", 4, 8)
    path = shards.folder / shards.of("test")[0].file
    path.write_bytes(path.read_bytes()[:2000])
    found = validation_clips(shards, "test", 4, 8)
    assert 0 < len(found) < len(whole)
    assert path.name in caplog.text
    (shards.folder / shards.of("test")[1].file).unlink()
    with pytest.raises(UserError, match=r"nothing of split .test. can be read"):
        validation_clips(shards, "test", 4, 8)


def test_a_loading_process_that_dies_is_told_in_one_line(
    shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.getpid()
    real = Sample.frames

    def die(self: Sample, at: list[int] | None = None) -> np.ndarray:
        if os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, at)

    monkeypatch.setattr(Sample, "frames", die)
    loader = train_loader(shards, CONFIG.model_copy(update={"num_workers": 1}), 0)
    with pytest.raises(UserError, match=r"a loading process died .*num_workers=0") as told:
        next(iter(loader))
    assert "\n" not in str(told.value)


def test_only_the_death_of_a_loading_process_is_explained() -> None:
    death = worker_death(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
    assert death is not None
    assert "(DataLoader worker (pid 7) is killed by signal: Killed.)" in str(death)
    assert worker_death(RuntimeError("out of memory")) is None
    assert worker_death(KeyError("DataLoader worker (pid 7)")) is None


def test_a_share_is_a_part_of_the_joint_batch() -> None:
    def numbers(**of: bool) -> Iterator[list[int]]:
        return (list(Share(3, rank, 2, **of).numbers(12)) for rank in (0, 1))

    assert list(numbers()) == [[12, 13, 14], [15, 16, 17]]
    assert list(numbers(interleaved=True)) == [[12, 14, 16], [13, 15, 17]]
