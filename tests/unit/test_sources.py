"""What a user names is found: folders with links in them, patterns, lists; and what was ingested is known again."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from genie_lite.data.sources.content import find_twins, match_known
from genie_lite.data.sources.find import find_sources
from genie_lite.data.sources.named import absolute, expand
from genie_lite.data.sources.source import Source, key_of, with_unique_names
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError
from tests.lerobot_fixture import write_lerobot_v3
from tests.tars import write_tar


def touch(folder: Path, *names: str) -> Path:
    """Files that each hold their own name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} in {folder.name}", errors="surrogateescape")
    return folder


def names(*sources: str | Path) -> list[str]:
    return [source.name for source in find_sources(sources, [], 0.0)]


def faults(*sources: str | Path) -> dict[str, str | None]:
    return {source.name: source.fault for source in find_sources(sources, [], 0.0)}


# Folders


def test_links_to_folders_are_followed_once_and_never_in_circles(tmp_path: Path) -> None:
    folder = touch(tmp_path / "videos", "b/real.mp4", "top.mp4")
    touch(tmp_path / "elsewhere", "other.mp4")
    (folder / "a").symlink_to("b")  # before the real one in the order of names
    (folder / "b/up").symlink_to("..")
    (folder / "b/self").symlink_to("self")
    (folder / "b/far above").symlink_to(tmp_path)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "once more").symlink_to(tmp_path / "elsewhere")
    assert names(folder) == ["b/real.mp4", "link/other.mp4", "top.mp4"]


def test_a_link_to_a_video_counts_once_beside_it(tmp_path: Path) -> None:
    touch(tmp_path / "videos", "real.mp4")
    (tmp_path / "videos/link.mp4").symlink_to("real.mp4")
    (tmp_path / "videos/nowhere.mp4").symlink_to("gone.mp4")
    os.mkfifo(tmp_path / "videos/pipe.mp4")
    assert faults(tmp_path / "videos") == {
        "link.mp4": None,
        "nowhere.mp4": "a link that leads nowhere",
        "pipe.mp4": "not a file",
    }


def test_a_folder_that_cannot_be_listed_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "videos", "a.mp4", "closed/b.mp4", "closed too/c.mp4")
    listed = os.scandir

    def refuse(path: Any) -> Any:
        if "closed" in os.fspath(path):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match=r"2 folders in it cannot be listed: .*closed \(Permission denied\)"):
        assert names(tmp_path / "videos") == ["a.mp4"]
    with pytest.raises(UserError, match=r"closed: cannot be listed \(Permission denied\)"):
        names(tmp_path / "videos/closed")


def test_a_video_that_cannot_be_asked_for_its_size_is_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    stat = Path.stat

    def refuse(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.name == "a.mp4":
            raise PermissionError(13, "Permission denied")
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", refuse)
    assert faults(tmp_path) == {"a.mp4": "cannot be opened (Permission denied)", "b.mp4": None}


@pytest.mark.parametrize("mark", ["shards.json", ".ingest/plan.json"])
def test_shards_are_no_videos(tmp_path: Path, mark: str) -> None:
    touch(tmp_path, "videos/a.mp4", "videos/out/train-000000.tar", f"videos/out/{mark}")
    for source in ("videos/out", "videos/out/train-000000.tar"):
        with pytest.raises(UserError, match="holds shards that genie-lite made, not videos"):
            names(tmp_path / source)
    for source in ("videos", "videos/*"):
        with pytest.warns(UserWarning, match=r"out: holds shards that genie-lite made, not videos; left out"):
            assert names(tmp_path / source) == ["a.mp4"]


# Names


AWKWARD = [
    "a b.mp4",
    "v1.2 x.mp4",
    "深い/ß é.mp4",
    "e\u0301.mp4",
    "é.mp4",
    "two\nlines.mp4",
    "\udcff.mp4",
    "A.mp4",
]
AWKWARD += [
    "a.mp4",
    "#1.mp4",
    " .mp4",
    "-.mp4",
    "x" * 250 + ".mp4",
    "[1]*?.mp4",
    "@a.mp4",
    "a.mp4 .mp4",
    "'\"\\.mp4",
]


def test_names_of_any_letters_stay_what_they_are(tmp_path: Path) -> None:
    for number, name in enumerate(AWKWARD):
        path = tmp_path / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"." * number)
    sources = find_sources([tmp_path / "x"], [], 0.0)
    assert {source.name: source.size for source in sources} == {name: k for k, name in enumerate(AWKWARD)}
    assert len({key_of(source.name, 0).lower() for source in sources}) == len(AWKWARD)
    for name in AWKWARD:  # each is meant, not what it would stand for as a pattern or a list
        assert names(tmp_path / "x" / name) == [Path(name).name]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("cam/clip.v1.mp4", "cam_clip_v1"),
        ("README", ""),
        ("x.tar/a.mp4", "x_tar_a"),
        ("videos/cam/file-000.mp4#episode_000012", "videos_cam_file_000_episode_000012"),
    ],
)
def test_keys_begin_with_what_can_be_read_of_the_name(name: str, key: str) -> None:
    assert key_of(name, 7).rpartition("-")[0].rpartition("-")[0] == key


def test_names_get_as_many_parents_as_they_need(tmp_path: Path) -> None:
    for folder in ("1/left/cam", "1/right/cam", "2/right/cam"):
        touch(tmp_path / folder, "a.mp4", "only.mp4" if folder == "1/left/cam" else "a.mp4")
    found = names(*(tmp_path / folder for folder in ("1/left/cam", "1/right/cam", "2/right/cam")))
    assert found == ["1/right/cam/a.mp4", "2/right/cam/a.mp4", "left/cam/a.mp4", "only.mp4"]


def test_taken_names_are_avoided_even_when_no_parent_is_left(tmp_path: Path) -> None:
    source = Source(Place(Path("/a.mp4")), Path("/"), "a.mp4", 1)
    assert [each.name for each in with_unique_names([source], {"a.mp4", "1/a.mp4"})] == ["2/a.mp4"]


# Patterns


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    return touch(
        tmp_path / "footage", "a.mp4", "b.txt", "x/a.mp4", "x/c.MOV", "x/y/d.mp4", ".hidden/e.mp4", ".f.mp4"
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp4", ["a.mp4"]),
        ("**/*.mp4", ["a.mp4", "x/a.mp4", "x/y/d.mp4"]),
        ("**/a.mp4", ["a.mp4", "x/a.mp4"]),
        ("*/a.mp4", ["x/a.mp4"]),
        ("x/**", ["a.mp4", "c.MOV", "y/d.mp4"]),  # begins from x
        ("**/y/*", ["x/y/d.mp4"]),
        ("?/c.*", ["x/c.MOV"]),
        ("[wx]/[!a]*", ["x/c.MOV", "x/y/d.mp4"]),
        ("*", ["a.mp4", "x/a.mp4", "x/c.MOV", "x/y/d.mp4"]),  # folders are searched, other files passed over
        (".*/*.mp4", [".hidden/e.mp4"]),
        ("**/**/**/d.mp4", ["x/y/d.mp4"]),
    ],
)
def test_patterns_match_as_in_a_shell(footage: Path, pattern: str, expected: list[str]) -> None:
    assert names(f"{footage}/{pattern}") == expected
    assert names(footage / pattern) == expected


def test_patterns_are_relative_to_where_one_is(footage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(footage)
    assert names("**/*.mp4") == ["a.mp4", "x/a.mp4", "x/y/d.mp4"]
    assert names("./x/*.mp4") == ["a.mp4"]


@pytest.mark.parametrize("pattern", ["*.webm", "**/nothing/*", "a.mp4/*", "[z]"])
def test_a_pattern_that_matches_nothing_is_an_error(footage: Path, pattern: str) -> None:
    with pytest.raises(UserError, match="no file matches this pattern"):
        names(f"{footage}/{pattern}")


def test_a_pattern_of_other_files_alone_is_an_error(footage: Path) -> None:
    with pytest.raises(UserError, match="no video in there"):
        names(f"{footage}/b.*")


def test_a_suffix_that_is_spelled_out_is_meant(tmp_path: Path) -> None:
    touch(tmp_path, "a.h264", "b.h264", "c.data")
    assert names(f"{tmp_path}/*.h264") == ["a.h264", "b.h264"]
    assert names(f"{tmp_path}/*.h264", tmp_path / "c.data") == ["a.h264", "b.h264", "c.data"]


def test_what_is_there_is_meant_before_what_matches(tmp_path: Path) -> None:
    touch(tmp_path, "v[1].mp4", "v1.mp4", "cam[2]/a.mp4", "cam2/b.mp4", "*.mp4")
    assert names(tmp_path / "v[1].mp4") == ["v[1].mp4"]
    assert names(f"{tmp_path}/cam[2]/*.mp4") == ["a.mp4"]
    assert names(f"{tmp_path}/*.mp4") == ["*.mp4"]
    assert names(f"{tmp_path}/[v]1.mp4") == ["v1.mp4"]


def test_patterns_go_in_no_circles(tmp_path: Path) -> None:
    touch(tmp_path / "footage", "a/x.mp4", "b/y.mp4")
    for folder in ("a", "b"):
        for link in range(6):
            (tmp_path / "footage" / folder / f"{link}").symlink_to("..")
    assert names(f"{tmp_path}/footage/**/*.mp4") == ["a/x.mp4", "b/y.mp4"]


# Lists


def test_a_list_names_one_source_per_line(footage: Path) -> None:
    (footage / "videos.txt").write_text(
        "# mine\n\na.mp4\r\n  x/a.mp4  \nx/y\ngone.mp4\n*/c.*\nx/y/../c.MOV\n"
    )
    assert faults(footage / "videos.txt") == {
        "a.mp4": None,
        "x/a.mp4": None,
        "x/y/d.mp4": None,
        "gone.mp4": "no such file (line 6 of videos.txt)",
        "x/c.MOV": None,
    }


@pytest.mark.parametrize("how", ["videos.lst", "videos.TXT", "@videos", "@videos.mp4"])
def test_lists_are_told_by_their_suffix_or_by_an_at(
    footage: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (footage / how.removeprefix("@")).write_text("\ufeffa.mp4\nx/a.mp4")
    monkeypatch.chdir(footage)
    assert names(how) == ["a.mp4", "x/a.mp4"]
    monkeypatch.chdir(footage.parent)
    at, _, name = how.rpartition("videos")
    assert names(f"{at}footage/videos{name}") == ["a.mp4", "x/a.mp4"]


def test_a_video_that_is_called_like_a_list_is_a_video(tmp_path: Path) -> None:
    (tmp_path / "movie.txt").write_bytes(b"\0\0\0\x20ftypisom")
    assert names(tmp_path / "movie.txt") == ["movie.txt"]
    with pytest.raises(UserError, match="is no text; expected a list of videos"):
        names(f"@{tmp_path}/movie.txt")


def test_lists_of_a_folder_are_no_sources_unless_named(footage: Path) -> None:
    (footage / "list.txt").write_text("x/c.MOV\n")
    (footage / "list 2.txt").write_text("gone.mp4\n")
    (footage / "b.txt").unlink()
    assert "gone.mp4" not in names(footage)
    assert names(f"{footage}/*.txt") == ["gone.mp4", "x/c.MOV"]
    assert "gone.mp4" not in names(f"{footage}/*")


def test_names_of_a_list_do_not_hold_the_machines_folders(tmp_path: Path) -> None:
    touch(tmp_path / "lists", "in.mp4")
    touch(tmp_path / "left", "a.mp4", "cam/b.mp4")
    touch(tmp_path / "right", "a.mp4")
    lines = [tmp_path / "lists/in.mp4", tmp_path / "left/a.mp4", "../right/a.mp4", tmp_path / "left/cam"]
    (tmp_path / "lists/all.txt").write_text("\n".join(str(line) for line in lines))
    assert names(tmp_path / "lists/all.txt") == ["b.mp4", "in.mp4", "left/a.mp4", "right/a.mp4"]


def test_what_a_list_names_is_never_fatal_to_the_rest(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "empty/readme", "out/shards.json")
    (tmp_path / "inner.txt").write_text("a.mp4\n")
    lines = ["a.mp4", "empty", "out", "inner.txt", "*.webm", "https://host/x.mp4", "y" * 300 + ".mp4"]
    (tmp_path / "all.txt").write_text("\n".join(lines))
    found = faults(tmp_path / "all.txt")
    assert list(found.values()).count(None) == 1
    expected = {
        "empty": "no video in this folder",
        "out": "holds shards",
        "inner.txt": "a list in a list",
        "*.webm": "no file matches this pattern (line 5 of all.txt)",
        "https:/host/x.mp4": "no such file (line 6 of all.txt)",
        "y" * 300 + ".mp4": "no such file",
    }
    assert found.keys() == {"a.mp4", *expected}
    assert all(words in str(found[name]) for name, words in expected.items())


def test_spaces_at_the_ends_of_a_line_count_where_there_is_such_a_file(tmp_path: Path) -> None:
    touch(tmp_path, " a.mp4 ", "b.mp4", "#c.mp4")
    (tmp_path / "all.txt").write_text(" a.mp4 \n b.mp4 \n./#c.mp4\n")
    assert faults(tmp_path / "all.txt") == {" a.mp4 ": None, "b.mp4": None, "#c.mp4": None}


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n  # at all"])
def test_an_empty_list_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "all.txt").write_text(text)
    with pytest.raises(UserError, match="an empty list"):
        names(tmp_path / "all.txt")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone.mp4", r"gone\.mp4: no such file or folder"),
        ("", "a source without a name"),
        ("@gone", "gone: cannot be read"),
        ("@", "@: no such file or folder"),
        ("https://host/x.mp4", r"https://host/x\.mp4: is an address"),
        ("s3://bucket/*.mp4", "is an address"),
        ("x" * 5000, "no such file or folder"),
    ],
)
def test_what_is_named_directly_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        names(source)


@pytest.mark.parametrize("source", ["a.mp4", "x/*.mp4", "@list", "@x/list", "../footage/a.mp4"])
def test_an_absolute_source_means_the_same_from_elsewhere(
    footage: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    for folder in (footage, footage / "x"):
        (folder / "list").write_text("a.mp4")
    monkeypatch.chdir(footage)
    found, elsewhere = names(source), absolute(source)
    monkeypatch.chdir(footage.parent)
    assert names(elsewhere) == found
    assert [named.path.is_absolute() for named in expand(elsewhere)] == [True] * len(found)


# What was ingested before


def row_of(source: Source, **changes: Any) -> dict[str, Any]:
    """A row of a manifest, as ingest writes it."""
    with source.place.open() as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    row = {
        "path": str(source.path),
        "source": source.name,
        "bytes": source.size,
        "sha256": digest,
        "split": source.split,
        "status": "ingested",
        "source_frames": source.num_frames,
    }
    return row | changes


def rows_of(sources: Iterable[Source]) -> list[dict[str, Any]]:
    return [row_of(source) for source in sources]


def test_a_second_look_at_the_same_folder_knows_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "videos", "a.mp4", "b/a.mp4", "b/c.mp4")
    found = find_sources([tmp_path / "videos"], [], 0.5)
    rows = rows_of(found)
    rows[0]["split"], rows[0]["moved_from"] = "other", found[0].split
    monkeypatch.setattr(Place, "open", lambda *_: pytest.fail("read, where nothing has moved"))
    matched = match_known(found, rows)
    assert matched.known == found  # on the sides that they were drawn for
    assert not matched.new
    assert not matched.changed
    monkeypatch.chdir(tmp_path / "videos")
    assert match_known(find_sources(["../videos/b"], [], 0.0), rows).new == []


def test_new_changed_and_broken_files_are_told_apart(tmp_path: Path) -> None:
    folder = touch(tmp_path / "videos", "a.mp4", "b.mp4", "c.mp4")
    (folder / "all.txt").write_text("a.mp4\nb.mp4\nc.mp4\nd.mp4")
    rows = rows_of(source for source in find_sources([folder], [], 0.0))
    touch(folder, "d.mp4")
    (folder / "b.mp4").write_text("recorded anew, and longer")
    (folder / "c.mp4").unlink()  # its clips are there
    matched = match_known(find_sources([folder / "all.txt"], [], 0.0), rows)
    assert [source.name for source in matched.known] == ["a.mp4", "c.mp4"]
    assert [source.name for source in matched.new] == ["d.mp4"]
    assert [source.name for source in matched.changed] == ["b.mp4"]


def test_a_folder_that_was_moved_is_known_by_its_content(tmp_path: Path) -> None:
    folder = touch(tmp_path / "videos", "a.mp4", "b.mp4", "c.mp4")
    rows = rows_of(find_sources([folder], [], 0.0))
    folder.rename(tmp_path / "moved")
    (tmp_path / "moved/b.mp4").write_text("b.mp4 of videos")  # of the same size
    (tmp_path / "moved/c.mp4").write_text("of another size")
    matched = match_known(find_sources([tmp_path / "moved"], [], 0.0), rows)
    assert [source.name for source in matched.known] == ["a.mp4"]
    assert matched.known[0].path == tmp_path / "moved/a.mp4"
    assert [source.name for source in matched.new] == ["moved/b.mp4", "moved/c.mp4"]
    assert not matched.changed


def test_a_copy_beside_the_original_is_no_move(tmp_path: Path) -> None:
    """It gets a row of its own, as the twin that it is."""
    touch(tmp_path / "videos", "a.mp4")
    touch(tmp_path / "copies")
    rows = rows_of(find_sources([tmp_path / "videos"], [], 0.0))
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies/a.mp4").write_bytes((tmp_path / "videos/a.mp4").read_bytes())
    matched = match_known(find_sources([tmp_path / "copies", tmp_path / "videos"], [], 0.0), rows)
    assert [(source.name, source.path.parent.name) for source in matched.known] == [("a.mp4", "videos")]
    assert [source.name for source in matched.new] == ["copies/a.mp4"]
    assert find_twins(matched.new, rows) == {"copies/a.mp4": "a.mp4"}
    assert find_twins(matched.new, [row | {"status": "filtered"} for row in rows]) == {}


def test_a_name_that_two_folders_share_stays_with_the_row_that_has_it(tmp_path: Path) -> None:
    for side in ("left", "right"):
        touch(tmp_path / side / "cam", "a.mp4")
        (tmp_path / side / "cam/a.mp4").write_text(side)
    rows = rows_of(find_sources([tmp_path / "left/cam"], [], 0.0))
    both = find_sources([tmp_path / "left/cam", tmp_path / "right/cam"], [], 0.0)
    for found in (both, both[1:], find_sources([tmp_path / "right/cam"], [], 0.0)):
        matched = match_known(found, rows)
        assert [source.name for source in matched.known] == (["a.mp4"] if len(found) == 2 else [])
        (new,) = matched.new
        assert new.path == tmp_path / "right/cam/a.mp4"
        assert new.name.endswith("cam/a.mp4")


def test_without_a_hash_in_its_row_nothing_is_taken_for_moved(tmp_path: Path) -> None:
    """Of a quarantined file little may be known; another of its name and size must not be lost for it."""
    folder = touch(tmp_path / "videos", "a.mp4")
    rows = [row_of(source, sha256=None) for source in find_sources([folder], [], 0.0)]
    folder.rename(tmp_path / "moved")
    matched = match_known(find_sources([tmp_path / "moved"], [], 0.0), rows)
    assert [source.name for source in matched.new] == ["moved/a.mp4"]


def test_parts_of_files_are_known_one_by_one(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"a.mp4": b"a", "x.tar/a.mp4": b"b"})
    write_lerobot_v3(tmp_path / "robot", (12, 9, 15))
    found = find_sources([tmp_path], [], 0.0)
    rows = rows_of(found)
    assert match_known(found, rows).known == found
    assert match_known(found[1:], rows).known == found[1:]
    assert match_known(found, rows[1:]).new == found[:1]
    (tmp_path / "x.tar").rename(tmp_path / "y.tar")
    (tmp_path / "sub").mkdir()
    (tmp_path / "y.tar").rename(tmp_path / "sub/x.tar")
    moved = find_sources([tmp_path / "sub"], [], 0.0)
    assert [source.name for source in match_known(moved, rows).known] == ["x.tar/a.mp4", "x.tar/x.tar/a.mp4"]


def test_a_dataset_may_grow_in_the_file_of_its_last_episodes(tmp_path: Path) -> None:
    write_lerobot_v3(tmp_path / "robot", (12, 9))
    rows = rows_of(find_sources([tmp_path / "robot"], [], 0.0))
    write_lerobot_v3(tmp_path / "robot", (12, 9, 15))
    matched = match_known(find_sources([tmp_path / "robot"], [], 0.0), rows)
    assert [source.name[-2:] for source in matched.known] == ["00", "01"]
    assert [source.name[-2:] for source in matched.new] == ["02"]
    assert not matched.changed


# Twins of parts


def test_a_member_and_a_file_of_the_same_content_are_twins(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"a.mp4": b"video", "b.mp4": b"other", "c.mp4": b"video"})
    (tmp_path / "z.mp4").write_bytes(b"video")
    twins = find_twins(find_sources([tmp_path], [], 0.0))
    assert twins == {"x.tar/c.mp4": "x.tar/a.mp4", "z.mp4": "x.tar/a.mp4"}


def test_episodes_of_one_file_are_not_compared_and_those_of_a_copied_one_are_twins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lerobot_v3(tmp_path / "one", (12, 12, 12))
    alone = find_sources([tmp_path / "one"], [], 0.0)
    write_lerobot_v3(tmp_path / "two", (12, 12, 12))
    both = find_sources([tmp_path], [], 0.0)
    twins = find_twins(both)
    assert twins == {name: name.replace("two/", "one/") for name in twins}
    assert len(twins) == 3
    monkeypatch.setattr(Place, "open", lambda *_: pytest.fail("read"))
    assert find_twins(alone) == {}
