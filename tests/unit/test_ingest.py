"""From folders of videos to shards: what is cut, kept, refused, and how it survives being stopped."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from genie_lite.data.cutting.sandbox import Sandbox
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest import ingest as ingest_module
from genie_lite.data.ingest.ingest import ingest
from genie_lite.data.ingest.workers import Workers
from genie_lite.data.shards.shards import Sample, ShardSet
from genie_lite.data.sources.content import find_twins
from genie_lite.data.sources.find import find_moves, find_sources
from genie_lite.data.sources.source import key_of
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError
from tests.forked import run_forked
from tests.lerobot_fixture import write_lerobot
from tests.videos import black, huge_gif, moving_square, truncate, write

CONFIG = IngestConfig(
    size_px=32,
    rate_hz=10.0,
    segment_frames=20,
    min_frames=4,
    shard_samples=3,
    letterbox=False,
    min_motion=0.0,
    near_duplicates=False,
)


def rows_of(out: Path) -> dict[str, dict]:
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert len({row["source"] for row in rows}) == len(rows)
    return {row["source"]: row for row in rows}


def content(out: Path) -> dict[str, bytes]:
    assert not (out / ".ingest").exists()
    return {file.name: file.read_bytes() for file in out.iterdir()}


# Names and splits


@pytest.mark.parametrize("name", ["v1.2 clip.mp4", "深い/ß é.mp4", "a" * 90 + ".mp4", "\udcff.mp4", ".mp4"])
def test_keys_are_safe_for_tar_and_webdataset(name: str) -> None:
    key = key_of(name, 3)
    assert key.isascii()
    assert not set(key) & set("./ \\:")
    assert len(key) < 80
    assert key != key_of("other/" + name, 3) != key_of("other/" + name, 4)


def make_empty_files(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def split_of(paths: list[Path], share: float, test_sources: tuple[Path, ...] = ()) -> dict[str, str]:
    return {source.name: source.split for source in find_sources(paths, test_sources, share)}


def test_new_files_do_not_move_old_ones_to_the_other_split(tmp_path: Path) -> None:
    make_empty_files(tmp_path, [f"{k}.mp4" for k in range(60)])
    before = split_of([tmp_path], 0.2)
    make_empty_files(tmp_path, [f"new/{k}.mp4" for k in range(60)])
    after = split_of([tmp_path], 0.2)
    assert before.items() <= after.items()
    assert 8 <= list(after.values()).count("test") <= 40


@pytest.mark.parametrize(("num", "share"), [(2, 0.01), (2, 0.99), (5, 0.1)])
def test_both_splits_have_a_source(tmp_path: Path, num: int, share: float) -> None:
    make_empty_files(tmp_path, [f"{k}.mp4" for k in range(num)])
    assert set(split_of([tmp_path], share).values()) == {"train", "test"}


def test_share_zero_holds_nothing_out(tmp_path: Path) -> None:
    make_empty_files(tmp_path, ["a.mp4", "b.mp4"])
    assert set(split_of([tmp_path], 0.0).values()) == {"train"}


def test_test_sources_are_all_of_the_test_split(tmp_path: Path) -> None:
    train = make_empty_files(tmp_path / "train", [f"{k}.mp4" for k in range(30)])
    test = make_empty_files(tmp_path / "test", ["x.mp4", "y.mp4"])
    split = split_of([train], 0.5, (test,))
    assert {name for name, side in split.items() if side == "test"} == {"x.mp4", "y.mp4"}


def test_a_file_on_both_sides_is_refused(tmp_path: Path) -> None:
    make_empty_files(tmp_path, ["a.mp4", "b.mp4"])
    with pytest.raises(UserError, match=r"a\.mp4.*test sources"):
        find_sources([tmp_path], [tmp_path / "a.mp4"], 0.1)


def test_same_names_in_different_folders_stay_apart(tmp_path: Path) -> None:
    for folder in ("left/cam", "right/cam"):
        make_empty_files(tmp_path / folder, ["a.mp4", "only_" + folder[0] + ".mp4"])
    names = split_of([tmp_path / "left/cam", tmp_path / "right/cam", tmp_path / "left"], 0.1)
    assert names.keys() == {"left/cam/a.mp4", "right/cam/a.mp4", "only_l.mp4", "only_r.mp4"}


def test_other_files_are_no_sources_unless_named(tmp_path: Path) -> None:
    make_empty_files(tmp_path, ["a.MP4", "labels.parquet", "README.txt"])
    assert split_of([tmp_path], 0.1).keys() == {"a.MP4"}
    assert split_of([tmp_path, tmp_path / "labels.parquet"], 0.1).keys() == {"a.MP4", "labels.parquet"}


@pytest.mark.parametrize(("path", "message"), [("nowhere", "no such file or folder"), (".", "no video")])
def test_missing_and_empty_are_user_errors(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ingest([tmp_path / path], tmp_path / "out", CONFIG)


def test_a_robots_episodes_are_named_as_its_labels_name_them(tmp_path: Path) -> None:
    actions = write_lerobot(tmp_path / "robot", num_episodes=3, cameras=("observation.images.front",))
    truncate(tmp_path / "robot" / max(actions))
    ingest([tmp_path / "robot"], tmp_path / "out", CONFIG, workers=Workers(num=1))
    assert rows_of(tmp_path / "out").keys() == actions.keys()
    statuses = [row["status"] for row in rows_of(tmp_path / "out").values()]
    assert statuses == ["ingested", "ingested", "quarantined"]


# A folder as folders are


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of good and bad videos, and the shards made of it."""
    root = tmp_path_factory.mktemp("mixed")
    source = root / "my videos"
    write(source / "a b/ü.v1.mp4", moving_square(12))
    write(source / "c/ü.v1.mp4", moving_square(12, ground="green"))
    write(source / "cut.mp4", np.concatenate([moving_square(9), moving_square(9, ground="green")]))
    write(source / "long.mp4", moving_square(70))
    write(source / "short.mp4", moving_square(3))
    write(source / "all black.mp4", black(20))
    write(source / "slow.mp4", moving_square(20), rate_hz=2.0)
    truncate(write(source / "broken.mp4", moving_square(30)))
    (source / "text.mp4").write_text("hello\n" * 100)
    (source / "labels.parquet").write_bytes(b"apart")
    seen: list[tuple[int, int]] = []
    summary = ingest(
        [source],
        root / "out",
        CONFIG,
        progress=lambda done, total: seen.append((done, total)),
        workers=Workers(num=2),
    )
    assert (summary.sources, summary.ingested, summary.filtered, summary.quarantined) == (9, 4, 3, 2)
    assert seen[-1] == (9, 9)
    assert seen == sorted(seen)
    return source, root / "out"


def test_every_source_has_one_row(mixed: tuple[Path, Path]) -> None:
    source, out = mixed
    rows = rows_of(out)
    assert rows.keys() == {path.relative_to(source).as_posix() for path in source.rglob("*.mp4")}
    reasons = {name: (row["status"], row["reason"]) for name, row in rows.items() if row["reason"]}
    assert reasons.keys() == {"short.mp4", "all black.mp4", "slow.mp4", "broken.mp4", "text.mp4"}
    assert reasons["broken.mp4"][0] == reasons["text.mp4"][0] == "quarantined"
    assert reasons["short.mp4"] == ("filtered", "no shot of at least 4 frames at 10 Hz")
    assert "20 of 20 frames are black" in reasons["all black.mp4"][1]
    assert "too slow for rate_hz 10" in reasons["slow.mp4"][1]
    assert {name: row["clips"] for name, row in rows.items() if row["clips"]} == {
        "a b/ü.v1.mp4": 1,
        "c/ü.v1.mp4": 1,
        "cut.mp4": 2,
        "long.mp4": 4,
    }


def samples_of(out: Path) -> list[Sample]:
    shards = ShardSet.open(out)
    return [sample for split in ("train", "test") for sample in shards.samples(split)]


def test_samples_say_where_they_come_from(mixed: tuple[Path, Path]) -> None:
    _, out = mixed
    found = samples_of(out)
    assert len({sample.key for sample in found}) == len(found) == 8
    rows = rows_of(out)
    for sample in found:
        meta = sample.meta
        assert sample.frames().shape == (meta["num_frames"], 32, 32, 3)
        assert len(meta["source_frames"]) == len(meta["times_s"]) == meta["num_frames"]
        assert meta["episode"] == meta["source"]
        assert rows[meta["source"]]["split"] == meta["split"]
        assert rows[meta["source"]]["sha256"] == meta["sha256"]
    assert [s.meta["segment"] for s in found if s.meta["source"] == "long.mp4"] == [0, 1, 2, 3]


def test_shards_are_closed_at_the_first_source_that_fills_them(mixed: tuple[Path, Path]) -> None:
    _, out = mixed
    shards = ShardSet.open(out)
    for split in ("train", "test"):
        for shard in shards.of(split)[:-1]:
            assert shard.samples >= CONFIG.shard_samples
    assert {file.name for file in out.iterdir() if file.name != ".ingest.lock"} == {
        "manifest.jsonl",
        "shards.json",
        *(shard.file for shard in shards.shards),
    }


def test_the_number_of_workers_changes_nothing(mixed: tuple[Path, Path], tmp_path: Path) -> None:
    source, out = mixed
    ingest([source], tmp_path / "out", CONFIG, workers=Workers(num=1))
    assert content(tmp_path / "out") == content(out)


def test_a_second_run_does_no_work(mixed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = mixed
    monkeypatch.setattr(Sandbox, "read", lambda *_: pytest.fail("decoded again"))
    before = content(out)
    assert ingest([source], out, CONFIG).ingested == 4
    assert content(out) == before


def test_other_settings_in_the_same_folder_are_named(mixed: tuple[Path, Path]) -> None:
    source, out = mixed
    other = CONFIG.model_copy(update={"rate_hz": 5.0})
    with pytest.raises(UserError, match=r"rate_hz was 10.0, now 5.0") as caught:
        ingest([source], out, other)
    assert "size_px" not in str(caught.value)


def test_other_videos_in_the_same_folder_are_named(mixed: tuple[Path, Path]) -> None:
    source, out = mixed
    with pytest.raises(UserError, match=r"8 gone or changed \(a b/ü\.v1\.mp4"):
        ingest([source / "cut.mp4"], out, CONFIG)


def test_when_nothing_is_usable_the_reasons_are_told(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text(f"no video, {name}")
    write(tmp_path / "c.mp4", moving_square(2))
    with pytest.raises(UserError, match=r"none of 3 videos.*2 x not a readable video.*1 x no shot"):
        ingest([tmp_path], tmp_path / "out", CONFIG)
    assert [row["status"] for row in rows_of(tmp_path / "out").values()] == [
        "quarantined",
        "quarantined",
        "filtered",
    ]
    assert not (tmp_path / "out/shards.json").exists()


def test_two_ingests_do_not_share_a_folder(tmp_path: Path) -> None:
    import fcntl

    write(tmp_path / "a.mp4", moving_square(8))
    (tmp_path / "out").mkdir()
    with (tmp_path / "out/.ingest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another ingest"):
            ingest([tmp_path / "a.mp4"], tmp_path / "out", CONFIG)


# Stopped at any point


KILLED = """
import os, signal, sys
from pathlib import Path
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.ingest import ingest
from genie_lite.data.ingest.workers import Workers

def progress(done, total):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

config = IngestConfig.model_validate_json(sys.argv[4])
ingest([Path(sys.argv[1])], Path(sys.argv[2]), config, progress=progress, workers=Workers(num=1))
"""


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Ten videos and the content of shards that were made of them in one go."""
    root = tmp_path_factory.mktemp("ten")
    for k in range(10):
        write(root / f"source/{k}.mp4", moving_square(8, shift=k))
    ingest([root / "source"], root / "out", CONFIG)
    return root / "source", content(root / "out")


@pytest.mark.parametrize("at", [2, 7, 10])
def test_killed_and_started_again_gives_the_same_bytes(
    ten: tuple[Path, dict[str, bytes]], tmp_path: Path, at: int
) -> None:
    source, expected = ten
    out = tmp_path / "out"
    argv = ["-c", KILLED, str(source), str(out), str(at), CONFIG.model_dump_json()]
    assert run_forked(argv, tmp_path).returncode == -signal.SIGKILL
    assert not (out / "shards.json").exists()
    kept = {file.name: file.stat().st_ino for file in out.glob("*.tar")}
    assert bool(kept) == (at > 3)
    ingest([source], out, CONFIG)
    assert content(out) == expected
    assert {name: (out / name).stat().st_ino for name in kept} == kept


def test_an_unfinished_folder_remembers_its_settings(
    ten: tuple[Path, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = ten
    monkeypatch.setattr(ingest_module, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ingest([source], tmp_path, CONFIG)
    with pytest.raises(UserError, match="crf was 12, now 30"):
        ingest([source], tmp_path, CONFIG.model_copy(update={"crf": 30}))


# The same video under two names


def named_by_split(folder: Path, share: float) -> tuple[list[str], list[str]]:
    """Names of eight files, those drawn for training and those drawn for testing."""
    drawn = split_of([make_empty_files(folder, [f"{k}.mp4" for k in range(8)])], share)
    train, test = (sorted(name for name in drawn if drawn[name] == side) for side in ("train", "test"))
    return train, test


@pytest.mark.parametrize("chosen", [False, True])
def test_the_same_video_is_on_one_side_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: bool
) -> None:
    config = CONFIG.model_copy(update={"test_share": 0.4})
    train, test = named_by_split(tmp_path / "names", 0.4)
    for k, name in enumerate([*train, *test]):
        write(tmp_path / "videos" / name, moving_square(8 + k))
    twin = (tmp_path / "videos" / train[0]).write_bytes
    if chosen:
        write(tmp_path / "held/out.mp4", moving_square(30))
        kept, test_sources = "out.mp4", [tmp_path / "held"]
        twin((tmp_path / "held/out.mp4").read_bytes())
    else:
        kept, test_sources = test[0], []
        twin((tmp_path / "videos" / kept).read_bytes())
    for attempt in ("out", "again"):
        with monkeypatch.context() as patch:
            if attempt == "again":
                patch.setattr(ingest_module, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
                with pytest.raises(KeyboardInterrupt):
                    ingest([tmp_path / "videos"], tmp_path / attempt, config, test_sources=test_sources)
        summary = ingest([tmp_path / "videos"], tmp_path / attempt, config, test_sources=test_sources)
        assert (summary.filtered, summary.quarantined) == (1, 0)
    assert content(tmp_path / "out") == content(tmp_path / "again")
    rows = rows_of(tmp_path / "out")
    assert rows[train[0]]["status"] == "filtered"
    assert rows[train[0]]["reason"] == f"duplicate of {kept}"
    assert sides(tmp_path / "out")[kept] == "test"
    assert train[0] not in sides(tmp_path / "out")


def test_files_of_one_size_are_told_apart_and_others_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("a.mp4", "one"), ("b.mp4", "two"), ("c.mp4", "one"), ("d.mp4", "three")):
        (tmp_path / name).write_text(text)
    read: list[str] = []
    opened = Place.open
    monkeypatch.setattr(Place, "open", lambda place: read.append(place.path.name) or opened(place))
    assert find_twins(find_sources([tmp_path], [], 0.0)) == {"c.mp4": "a.mp4"}
    assert sorted(read) == ["a.mp4", "b.mp4", "c.mp4"]


def test_two_names_of_one_video_are_trained_on_once(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write(tmp_path / "videos" / name, moving_square(8))
    summary = ingest([tmp_path / "videos"], tmp_path / "out", CONFIG, workers=Workers(num=1))
    assert (summary.ingested, summary.filtered) == (1, 1)
    assert list(sides(tmp_path / "out").values()) == ["train"]


# Broken files and the split


def three_with_broken(folder: Path, *broken: int) -> Path:
    for k in range(3):
        path = write(folder / f"{k}.mp4", moving_square(8, shift=k))
        if k in broken:
            truncate(path)
    return folder


def sides(out: Path) -> dict[str, str]:
    return {sample.meta["source"]: sample.meta["split"] for sample in samples_of(out)}


@pytest.mark.parametrize("share", [0.1, 0.99])
@pytest.mark.parametrize("broken", [0, 1, 2])
def test_whichever_file_is_broken_both_splits_have_samples(tmp_path: Path, share: float, broken: int) -> None:
    source = three_with_broken(tmp_path / "videos", broken)
    config = CONFIG.model_copy(update={"test_share": share})
    assert ingest([source], tmp_path / "out", config, workers=Workers(num=1)).quarantined == 1
    split = sides(tmp_path / "out")
    assert sorted(split.values()) == ["test", "train"]

    rows = rows_of(tmp_path / "out")
    drawn = split_of([source], share)
    assert {name: row.get("moved_from", row["split"]) for name, row in rows.items()} == drawn
    assert {name: rows[name]["split"] for name in split} == split
    before = content(tmp_path / "out")
    ingest([source], tmp_path / "out", config)  # the plan is still recognised
    assert content(tmp_path / "out") == before


def test_without_broken_files_the_split_is_as_drawn(tmp_path: Path) -> None:
    source = three_with_broken(tmp_path / "videos")
    ingest([source], tmp_path / "out", CONFIG, workers=Workers(num=1))
    assert sides(tmp_path / "out") == split_of([source], CONFIG.test_share)
    assert not any("moved_from" in row for row in rows_of(tmp_path / "out").values())


def test_a_single_usable_file_is_trained_on(tmp_path: Path) -> None:
    for k in range(3):
        source = three_with_broken(tmp_path / f"{k}", *{0, 1, 2} - {k})
        ingest([source], tmp_path / f"out {k}", CONFIG, workers=Workers(num=1))
        assert sides(tmp_path / f"out {k}") == {f"{k}.mp4": "train"}


@pytest.mark.parametrize("good", ["", "k", "d", "dk", "ak", "bcg", "abcdefghijkl"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_only_a_side_without_a_usable_source_gets_another(tmp_path: Path, good: str, share: float) -> None:
    make_empty_files(tmp_path, [f"{letter}.mp4" for letter in "abcdefghijkl"])
    plan = find_sources([tmp_path], (), share)
    moves = find_moves(plan, lambda source: source.name[0] in good)
    assert moves == find_moves(plan[::-1], lambda source: source.name[0] in good)
    drawn = {source.name: source.split for source in plan if source.name[0] in good}
    settled = drawn | moves
    assert settled.keys() == drawn.keys()
    assert all(drawn[name] != side for name, side in moves.items())
    assert set(settled.values()) == {"train", "test"} if len(good) > 1 else set(settled.values()) <= {"train"}
    if len(set(drawn.values())) == 2:
        assert not moves


def test_chosen_test_sources_never_change_sides(tmp_path: Path) -> None:
    train = three_with_broken(tmp_path / "train")
    test = truncate(write(tmp_path / "test/x.mp4", moving_square(8)))
    ingest([train], tmp_path / "out", CONFIG, test_sources=[test], workers=Workers(num=1))
    assert set(sides(tmp_path / "out").values()) == {"train"}


def test_a_split_that_was_settled_holds_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {name[0]: side for name, side in split_of([three_with_broken(tmp_path / "x")], 0.1).items()}
    held_out = next(int(name) for name, side in drawn.items() if side == "test")
    source = three_with_broken(tmp_path / "videos", held_out)
    ingest([source], tmp_path / "expected", CONFIG, workers=Workers(num=1))

    with monkeypatch.context() as patch:
        patch.setattr(ingest_module, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ingest([source], tmp_path / "out", CONFIG, workers=Workers(num=1))
    monkeypatch.setattr(ingest_module, "find_moves", lambda *_: pytest.fail("settled again"))
    ingest([source], tmp_path / "out", CONFIG, workers=Workers(num=1))
    assert content(tmp_path / "out") == content(tmp_path / "expected")


# Files that want to harm


def test_hostile_files_are_quarantined_each_with_its_reason(tmp_path: Path) -> None:
    source = three_with_broken(tmp_path / "videos")
    huge_gif(source / "huge.gif")
    (source / "list.mp4").write_text("ffconcat version 1.0\nfile 0.mp4\n")
    (source / "playlist.ts").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n0.mp4\n")
    summary = ingest([source], tmp_path / "out", CONFIG, workers=Workers(num=1))
    assert (summary.ingested, summary.quarantined) == (3, 3)
    reasons = {name: row["reason"] for name, row in rows_of(tmp_path / "out").items() if row["reason"]}
    assert reasons.keys() == {"huge.gif", "list.mp4", "playlist.ts"}
    assert "at most 67108864 pixels" in reasons["huge.gif"]
    assert "not a readable video" in reasons["list.mp4"]
    assert "not a readable video" in reasons["playlist.ts"]
