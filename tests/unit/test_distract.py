"""Distractors: they move what stands still, smoothly, and leave everything but the frames of a clip alone."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genie_lite.data.distract.background import Background, standing
from genie_lite.data.distract.backgrounds import Backgrounds
from genie_lite.data.distract.colour import _turns
from genie_lite.data.distract.distractor import (
    DistractConfig,
    Distractor,
    background,
    colour,
    seed_of,
    shake,
)
from genie_lite.data.distract.draw import draw_distractor
from genie_lite.data.distract.shards import distract_shards
from genie_lite.data.distract.wander import Wander
from genie_lite.data.labels import Labels
from genie_lite.data.shards.shards import ShardSet, ShardWriter
from genie_lite.envs.distracted import DistractedEnv
from genie_lite.envs.protocol import Env
from genie_lite.envs.toy import ToyEnv
from genie_lite.errors import UserError
from genie_lite.folder import ingest_config_of
from tests.footage import write_shards
from tests.videos import drifting, truncate

NUM = 12


def footage(num: int = NUM, size: int = 40) -> np.ndarray:
    """Other footage, and of another size."""
    return drifting(num, size, size)


def plain(frames: np.ndarray, strength: int, seed: int) -> np.ndarray:
    return background(frames, strength, seed, footage())


KINDS = pytest.mark.parametrize("distract", [shake, colour, plain], ids=["shake", "colour", "background"])
Distract = Callable[[np.ndarray, int, int], np.ndarray]


def textured(num: int = NUM, size: int = 32) -> np.ndarray:
    """A picture with edges all over that stands still, and a bright square that crosses it."""
    frames = np.repeat(np.random.default_rng(0).integers(0, 180, (1, 8, 8, 3), np.uint8), num, axis=0)
    frames = frames.repeat(size // 8, axis=1).repeat(size // 8, axis=2)
    for k, frame in enumerate(frames):
        frame[12:20, 2 * k : 2 * k + 8] = (250, 240, 200)
    return frames


def change(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(int) - second).mean())


@KINDS
def test_a_stronger_one_changes_more_of_the_same(distract: Distract) -> None:
    frames = textured()
    changes = [change(distract(frames, strength, 3), frames) for strength in (1, 2, 3)]
    assert 1 < changes[0] < changes[1] < changes[2]


@KINDS
def test_what_stands_still_moves_and_moves_smoothly(distract: Distract) -> None:
    frames = np.repeat(textured(1), NUM, axis=0)
    shown = distract(frames, 3, 1)
    assert shown.dtype == np.uint8
    assert shown.shape == frames.shape
    steps = [change(shown[k], shown[k + 1]) for k in range(NUM - 1)]
    assert min(steps) > 0.1
    assert np.mean(steps) < 0.6 * change(shown[0], shown[NUM // 2])


@KINDS
def test_a_seed_draws_the_course(distract: Distract) -> None:
    frames = textured()
    assert np.array_equal(distract(frames, 2, 5), distract(frames, 2, 5))
    assert not np.array_equal(distract(frames, 2, 5), distract(frames, 2, 6))


def test_a_frame_changes_by_its_time_alone_however_long_the_clip_is() -> None:
    frames = textured()
    for distract in (shake, colour):
        assert np.array_equal(distract(frames, 2, 5)[:4], distract(frames[:4], 2, 5))


def test_a_path_stays_within_bounds_for_ever() -> None:
    places = Wander.draw(5, 0).at(np.arange(5000) / 10)
    assert places.shape == (5000, 5)
    assert 0.7 < np.abs(places).max() <= 1


def test_a_changed_hue_leaves_the_greys_and_light_leaves_no_colour_out_of_range() -> None:
    turns = _turns(np.array([0.0, 40.0, 90.0]))
    grey = np.full(3, 77.0)
    assert np.allclose(turns @ grey, grey)
    assert np.allclose(turns[0], np.eye(3))
    assert np.allclose(turns[1] @ turns[1].T, np.eye(3))
    white = np.full((NUM, 8, 8, 3), 255, np.uint8)
    assert colour(white, 3, 0).min() > 60  # nothing has wrapped around


# behind what moves


def test_what_moves_stays_in_front_of_other_footage() -> None:
    frames = textured()
    shown = background(frames, 3, 0, footage())
    for k in range(NUM):
        inner = shown[k, 13:19, 2 * k + 1 : 2 * k + 7]
        assert (inner == frames[k, 13:19, 2 * k + 1 : 2 * k + 7]).all()
    assert change(shown[:, :8], frames[:, :8]) > 20


def test_where_the_whole_picture_scrolls_the_footage_shines_through_all_of_it() -> None:
    wide = np.random.default_rng(0).integers(0, 255, (32, 80, 3), np.uint8)
    frames = np.stack([wide[:, 3 * k : 3 * k + 32] for k in range(NUM)])
    assert standing(frames) is None
    black = np.zeros((NUM, 32, 32, 3), np.uint8)
    shown = background(frames, 2, 0, black)
    assert np.abs(shown - 0.7 * frames).max() <= 0.51


def test_nothing_is_a_background_in_a_clip_without_edges_or_of_a_few_frames() -> None:
    assert standing(np.zeros((NUM, 16, 16, 3), np.uint8)) is None
    assert standing(textured(3)) is None
    assert standing(textured()) is not None


def test_footage_plays_to_its_end_and_back_without_a_jump() -> None:
    shades = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((8, 8, 3), np.uint8)
    played = Background(1, shades, 10.0, start_s=0.1).at(np.arange(10) / 10)[:, 0, 0, 0]
    assert played.tolist() == [1, 2, 3, 4, 3, 2, 1, 0, 1, 2]
    slow = Background(1, shades, 5.0, start_s=0.0).at(np.arange(4) / 10)[:, 0, 0, 0]
    assert slow.tolist() == [0, 0, 1, 2]  # half a frame each: to the even one
    still = Background(1, shades[:1], 10.0, start_s=0.3).at(np.arange(4) / 10)
    assert not still.any()


# shards


def told(shards: ShardSet) -> list[tuple[str, dict]]:
    return [(each.key, each.meta) for split in ("train", "test") for each in shards.samples(split)]


@pytest.fixture
def source(tmp_path: Path) -> ShardSet:
    shards = write_shards(tmp_path / "source", ("train", "train", "test"), (9, 7))
    (tmp_path / "source" / "manifest.jsonl").write_text('{"source": "x", "status": "ingested"}\n')
    return shards


@pytest.fixture
def other(tmp_path: Path) -> ShardSet:
    return write_shards(tmp_path / "other", ("train", "train"), (9, 12, 10))


def test_distracted_shards_differ_in_nothing_but_their_frames(source: ShardSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = distract_shards(source, out, DistractConfig(kind="shake", strength=3))
    found = ShardSet.open(out, strict=True)
    assert (summary.made, summary.kept, summary.samples) == (3, 0, 6)
    assert told(found) == told(source)
    assert [each.lengths for each in found.shards] == [each.lengths for each in source.shards]
    for before, after in zip(source.samples("train"), found.samples("train"), strict=True):
        assert change(before.frames(), after.frames()) > 1
    assert found.fingerprint != source.fingerprint
    assert found.config["distract"][0]["kind"] == "shake"
    assert ingest_config_of(found) == ingest_config_of(source)
    assert (out / "manifest.jsonl").read_bytes() == (source.folder / "manifest.jsonl").read_bytes()
    assert not list(out.glob(".*.json"))


def test_labels_join_as_before(source: ShardSet, tmp_path: Path) -> None:
    distract_shards(source, tmp_path / "out", DistractConfig(kind="colour"))
    sample = next(ShardSet.open(tmp_path / "out").samples("test"))
    native = np.asarray(sample.meta["source_frames"])
    labels = Labels(
        np.repeat(sample.meta["source"], 4), native[:4], np.arange(4), "discrete", ("a", "b", "c", "d")
    )
    assert (labels.locate([sample.meta["source"]] * 4, native[:4]) >= 0).all()


def test_kind_none_copies_every_byte(source: ShardSet, tmp_path: Path) -> None:
    distract_shards(source, tmp_path / "out", DistractConfig(kind="none"))
    assert ShardSet.open(tmp_path / "out").fingerprint == source.fingerprint


def test_distractors_are_put_one_over_another(source: ShardSet, tmp_path: Path) -> None:
    distract_shards(source, tmp_path / "a", DistractConfig(kind="shake", strength=1))
    distract_shards(ShardSet.open(tmp_path / "a"), tmp_path / "b", DistractConfig(kind="colour", seed=4))
    steps = ShardSet.open(tmp_path / "b").config["distract"]
    assert [step["kind"] for step in steps] == ["shake", "colour"]


def test_a_broken_off_call_goes_on_and_ends_with_the_same_bytes(
    source: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DistractConfig(kind="shake", strength=2, seed=7)
    distract_shards(source, tmp_path / "whole", config)
    written: list[int] = []
    close = ShardWriter.close

    def broken(writer: ShardWriter) -> object:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(len(writer))
        return close(writer)

    monkeypatch.setattr(ShardWriter, "close", broken)
    with pytest.raises(KeyboardInterrupt):
        distract_shards(source, tmp_path / "out", config)
    assert not (tmp_path / "out" / "shards.json").exists()
    monkeypatch.undo()
    with pytest.raises(UserError, match="holds other shards than shake-3 of these"):
        distract_shards(source, tmp_path / "out", DistractConfig(kind="shake", strength=3, seed=7))
    summary = distract_shards(source, tmp_path / "out", config)
    assert (summary.made, summary.kept) == (1, 2)
    assert ShardSet.open(tmp_path / "out").fingerprint == ShardSet.open(tmp_path / "whole").fingerprint
    again = distract_shards(source, tmp_path / "out", config)
    assert (again.made, again.kept, again.samples) == (0, 3, 6)


def test_a_shard_that_cannot_be_read_is_left_out_and_counted(source: ShardSet, tmp_path: Path) -> None:
    truncate(source.folder / "train-000000.tar")
    summary = distract_shards(source, tmp_path / "out", DistractConfig(kind="colour"))
    assert (summary.made, summary.damaged, summary.samples) == (2, 1, 4)
    for name in ("train-000001.tar", "test-000002.tar"):
        truncate(source.folder / name)
    with pytest.raises(UserError, match="no shard can be read"):
        distract_shards(source, tmp_path / "none", DistractConfig(kind="colour"))


def test_a_folder_of_something_else_is_left_alone(source: ShardSet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds other shards than shake-2 of these"):
        distract_shards(source, source.folder, DistractConfig(kind="shake"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UserError, match="holds something else"):
        distract_shards(source, tmp_path / "mine", DistractConfig(kind="shake"))


def test_backgrounds_are_wanted_where_they_are_shown(
    source: ShardSet, other: ShardSet, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="needs footage of something else"):
        distract_shards(source, tmp_path / "a", DistractConfig(kind="background"))
    with pytest.raises(UserError, match="shows no backgrounds"):
        distract_shards(source, tmp_path / "a", DistractConfig(kind="shake"), other)


def test_train_and_test_never_share_a_background(other: ShardSet, source: ShardSet, tmp_path: Path) -> None:
    pool = Backgrounds.of(other)
    sources = {split: {clip.meta["source"] for clip in clips} for split, clips in pool.clips.items()}
    assert all(sources.values())
    assert not sources["train"] & sources["test"]
    own = Backgrounds.of(source).clips  # splits of its own are kept
    assert {clip.meta["split"] for clip in own["test"]} == {"test"}
    done = distract_shards(source, tmp_path / "out", DistractConfig(kind="background"), other)
    assert done.frames == source.num_frames("train") + source.num_frames("test")
    with pytest.raises(UserError, match="1 source to take backgrounds from"):
        Backgrounds.of(write_shards(tmp_path / "one", ("train",), (9,)))


def test_a_clip_s_course_does_not_depend_on_the_clips_beside_it() -> None:
    assert seed_of(0, "a") != seed_of(0, "b") != seed_of(1, "b")
    assert seed_of(3, "a") == seed_of(3, "a")
    assert DistractConfig(kind="shake", strength=3).name == "shake-3"
    assert json.loads(DistractConfig(kind="none").model_dump_json())["seed"] == 0


# games


def test_a_game_is_distracted_by_level_and_by_time() -> None:
    levels, config = [3, 4], DistractConfig(kind="shake", strength=3)

    def draw(level: int) -> Distractor:
        return draw_distractor(config, f"level {level}", "test", (32, 32))

    plain_env, env = ToyEnv(2), DistractedEnv(ToyEnv(2), draw)
    clean = [plain_env.reset(levels)]
    seen = [env.reset(levels)]
    for _ in range(3):
        action = np.array([2, 4])
        clean.append(plain_env.step(action).frames)
        seen.append(env.step(action).frames)
    for stream, level in enumerate(levels):
        frames = np.stack([each[stream] for each in clean])
        expected = draw(level)(frames, np.arange(4) / env.rate_hz)
        assert np.array_equal(np.stack([each[stream] for each in seen]), expected)
    assert np.array_equal(env.reset(levels), seen[0])
    env.close()


def test_no_distractor_leaves_a_game_as_it_is() -> None:
    env = DistractedEnv(
        ToyEnv(1), lambda level: draw_distractor(DistractConfig(kind="none"), "", "test", (32, 32))
    )
    assert np.array_equal(env.reset([5]), ToyEnv(1).reset([5]))
    assert isinstance(env, Env)
    assert np.array_equal(env.restore(env.save()), env.reset([5]))


def test_footage_shines_through_a_game_at_play(other: ShardSet) -> None:
    config, footage = DistractConfig(kind="background", strength=2), Backgrounds.of(other)
    env = DistractedEnv(
        ToyEnv(1), lambda level: draw_distractor(config, f"level {level}", "test", (32, 32), footage)
    )
    first, plain_first = env.reset([5]).astype(float), ToyEnv(1).reset([5]).astype(float)
    shown = (first - 0.7 * plain_first) / 0.3  # what the footage must have been
    assert shown.min() > -3
    assert shown.max() < 258
    assert change(first, plain_first) > 5
    later = env.step(np.array([0])).frames
    assert 0 < change(later, first) < change(first, plain_first)
