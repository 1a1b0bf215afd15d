"""Frames to begin from: spread over the held-out shots, and read only when they are looked at."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genie_lite.data.shards.index import index_of
from genie_lite.data.shards.shards import Sample, ShardSet, ShardWriter
from genie_lite.data.video.codec import encode_mp4
from genie_lite.errors import UserError
from genie_lite.files import write_bytes, write_json
from genie_lite.folder import recipe_of
from genie_lite.play.starts import Start, Starts, png, starts_of
from tests.play_runs import NOT_RECORDED, noise, write_run
from tests.videos import wandering_square

PATIENCE_S = 30


def starts(run: Path, most: int = 24) -> Starts:
    return starts_of(recipe_of(run), most)


def labels(found: Starts) -> list[str]:
    return [found.label(index) for index in range(len(found))]


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, decoded = [], []
    run = write_run(tmp_path / "run")
    read, frames = ShardSet.read, Sample.frames
    monkeypatch.setattr(ShardSet, "read", lambda *given: opened.append(given) or read(*given))
    monkeypatch.setattr(Sample, "frames", lambda *given: decoded.append(given) or frames(*given))
    found = starts(run, 2)
    assert not opened
    assert labels(found) == ["test-1-0.mp4", "test-1-1.mp4"]
    assert len(opened) == 1
    assert not decoded
    assert found.frames(0).shape == (1, 16, 16, 3)
    found.thumbnail(0)
    found.frames(0)
    assert len(decoded) == 1


def test_a_start_that_takes_long_keeps_the_others_from_nobody() -> None:
    reading, may_end = threading.Event(), threading.Event()

    def slow() -> np.ndarray:
        reading.set()
        assert may_end.wait(PATIENCE_S)
        return noise(seed=0)

    found = Starts(lambda: [Start("slow", slow), Start("quick", lambda: noise(seed=1))])
    with ThreadPoolExecutor() as others:
        thumbnail = others.submit(found.thumbnail, 0)
        assert reading.wait(PATIENCE_S)
        answers = others.submit(lambda: (len(found), found.frames(1), found.thumbnail(1)))
        assert np.array_equal(answers.result(PATIENCE_S)[1], noise(seed=1))
        may_end.set()
        assert thumbnail.result(PATIENCE_S) == png(noise(seed=0)[-1])


def test_starts_are_found_once() -> None:
    calls: list[int] = []
    together = threading.Barrier(4)

    def find() -> list[Start]:
        calls.append(1)
        time.sleep(0.05)  # the others are there by now
        return [Start("one", lambda: noise(seed=1))]

    found = Starts(find)
    with ThreadPoolExecutor(4) as others:
        assert list(others.map(lambda _: together.wait(PATIENCE_S) >= 0 and len(found), range(4))) == [1] * 4
    assert calls == [1]


def test_the_frames_are_those_of_the_shot(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "evaluate.prompt_frames=3")
    found = starts(run, 2)
    shot = ShardSet.open(run / "shards").read(ShardSet.open(run / "shards").of("test")[0])[1]
    assert np.array_equal(found.frames(1), shot.frames([0, 1, 2]))
    thumbnail = Image.open(io.BytesIO(found.thumbnail(1)))
    assert thumbnail.format == "PNG"
    assert np.array_equal(np.asarray(thumbnail), shot.frames([2])[0])


def test_many_shots_give_one_start_each_from_all_over(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", splits=("test",) * 12)
    assert labels(starts(run, 4)) == ["test-0-0.mp4", "test-3-0.mp4", "test-6-0.mp4", "test-9-0.mp4"]


def test_few_shots_give_several_moments_each(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", splits=("test",))
    found = starts(run, 6)
    assert labels(found) == [
        "test-0-0.mp4",
        "test-0-0.mp4 at 0.2 s",
        "test-0-0.mp4 at 0.5 s",
        "test-0-1.mp4",
        "test-0-1.mp4 at 0.2 s",
        "test-0-1.mp4 at 0.4 s",
    ]
    shot = ShardSet.open(run / "shards").read(ShardSet.open(run / "shards").of("test")[0])[0]
    assert np.array_equal(found.frames(2)[0], shot.frames([5])[0])


def test_midway_is_the_middle_of_the_shot(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", splits=("test",))
    shot = ShardSet.open(run / "shards").read(ShardSet.open(run / "shards").of("test")[0])[0]
    assert np.array_equal(starts(run, 2).midway(0)[0], shot.frames([4])[0])


def test_where_nothing_is_held_out_others_are_taken(tmp_path: Path) -> None:
    assert labels(starts(write_run(tmp_path / "run", splits=("train",)), 2)) == [
        "train-0-0.mp4",
        "train-0-1.mp4",
    ]


def test_shots_that_are_too_short_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "evaluate.prompt_frames=8", splits=("test",))
    assert labels(starts(run, 1)) == ["test-0-0.mp4"]


def test_an_export_brings_pictures(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", splits=())
    for number in (0, 2, 10):
        write_bytes(run / "starts" / f"{number}.png", png(noise(seed=number)[0]))
    found = starts(run)
    assert labels(found) == ["start 0", "start 2", "start 10"]
    assert np.array_equal(found.frames(2), noise(seed=10))
    assert found.level(0) is None
    assert np.array_equal(found.midway(1), noise(seed=2))


def test_a_run_without_any_is_told_and_has_none(tmp_path: Path) -> None:
    found = starts(write_run(tmp_path / "run", splits=()))
    with pytest.warns(UserWarning, match="there are no frames to choose from, bring one"):
        assert len(found) == 0
    with pytest.raises(UserError, match="start: found 0, expected one of 0"):
        found.frames(0)


def test_a_start_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = starts(write_run(tmp_path / "run"), 2)
    for index in (-1, 2):
        with pytest.raises(UserError, match=f"start: found {index}, expected 0 to 1"):
            found.thumbnail(index)


def test_a_damaged_shard_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", splits=("test", "test"))
    path = run / "shards" / "test-000000.tar"
    found, data = starts(run, 2), path.read_bytes()
    path.write_bytes(data[:600] + b"\0" * (len(data) - 600))
    with pytest.warns(UserWarning, match=r"test-000000\.tar.*nothing of it is offered"):
        assert labels(found) == ["test-1-0.mp4", "test-1-0.mp4 at 0.4 s"]


def write_episode(folder: Path, source: str) -> None:
    """A shard of one shot, which is the whole of an episode."""
    meta = {
        "source": source,
        "split": "test",
        "num_frames": 9,
        "source_frames": list(range(9)),
        "times_s": [k / 10 for k in range(9)],
    }
    folder.mkdir()
    with ShardWriter(folder, "test", 0) as writer:
        writer.add(Sample("episode", encode_mp4(wandering_square("a", 9, 16), 10.0), meta))
        shard = writer.close()
    assert shard is not None
    write_json(folder / "shards.json", index_of([shard], {"size_px": 16, "rate_hz": 10.0}))


@pytest.mark.parametrize(
    ("source", "changes", "level"),
    [
        ("expert_0000042.mp4", (), 42),
        ("wander_0000007.mp4", (), 7),
        (
            "expert_0000042.mp4",
            NOT_RECORDED,
            None,
        ),  # only in a game that was recorded does a name say the level
        ("expert_0000042.mp4", ("evaluate.prompt_frames=2",), None),  # the second frame depends on an action
        ("mine.mp4", (), None),
    ],
)
def test_a_start_that_is_how_a_level_begins_says_so(
    tmp_path: Path, source: str, changes: tuple[str, ...], level: int | None
) -> None:
    run = write_run(tmp_path / "run", *changes, splits=())
    write_episode(run / "shards", source)
    found = starts(run, 2)
    assert [found.level(0), found.level(1)] == [level, None]
