"""Names, patterns and lists, over folders of any names."""

import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from genie_lite.data.shards.index import INDEX_FILE
from genie_lite.data.sources.content import match_known
from genie_lite.data.sources.find import WORK_FOLDER, find_sources
from genie_lite.data.sources.source import Source, key_of, with_unique_names
from genie_lite.data.sources.tree import matches
from genie_lite.data.video.place import Place

SETTINGS = settings(max_examples=40, deadline=None)

# What a system allows in a name: anything but a slash and a zero byte, and bytes that are no Unicode.
letters = st.characters(exclude_characters="/\0", exclude_categories=["Cs"]) | st.sampled_from(
    "\udc80\udcff .#[*@"
)
# Names that make a folder something else than videos: hypothesis finds them in our code.
MEANT = {WORK_FOLDER, INDEX_FILE, "meta"}
part = st.text(letters, min_size=1, max_size=12).filter(
    lambda name: name.strip(".") != "" and name not in MEANT
)
video = part.map(lambda name: f"{name}.mp4")
folders = st.lists(part, max_size=2).map(tuple)
paths = st.lists(
    st.builds(lambda above, name: (*above, name), folders, video), min_size=1, max_size=8, unique=True
)

# Few letters, so that patterns match something; none that stands for others, for such a name is meant itself.
plain = st.text("ab.", min_size=1, max_size=3).filter(lambda name: name.strip(".") != "")
pattern_part = st.sampled_from(["*", "**", "?", "a*", "*b", "[ab]", "[!a]*", ".*", "a", "b", "ab", "*.*"])


@contextmanager
def folder_of(files: list[tuple[str, ...]]) -> Iterator[tuple[Path, set[str]]]:
    """A folder with these files, those left out for which there is a folder or a file already; and their names."""
    with tempfile.TemporaryDirectory() as name:
        root, made = Path(name), set()
        for parts in files:
            path = root.joinpath(*parts)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch(exist_ok=False)
            except (FileExistsError, NotADirectoryError):
                continue
            made.add(path.relative_to(root).as_posix())
        yield root, made


@SETTINGS
@given(files=paths, more=paths)
def test_names_are_the_paths_and_do_not_depend_on_what_else_there_is(
    files: list[tuple[str, ...]], more: list[tuple[str, ...]]
) -> None:
    with folder_of(files) as (root, made):
        before = {source.name for source in find_sources([root], [], 0.0)}
    with folder_of([*files, *more]) as (root, all_made):
        after = {source.name for source in find_sources([root], [], 0.0)}
        keys = {key_of(name, 0) for name in after}
    assert before == made
    assert after == all_made
    assert before <= after
    assert len(keys) == len(after)
    assert all(key.isascii() and not set(key) & set("./ \\:") and len(key) < 80 for key in keys)


@SETTINGS
@given(files=paths, order=st.randoms(use_true_random=False))
def test_files_named_one_by_one_have_unique_names_in_any_order(
    files: list[tuple[str, ...]], order: object
) -> None:
    with folder_of(files) as (root, made):
        named = sorted(root / name for name in made)
        first = {source.path: source.name for source in find_sources(named, [], 0.0)}
        order.shuffle(named)  # type: ignore[attr-defined]
        assert {source.path: source.name for source in find_sources(named, [], 0.0)} == first
    assert len(set(first.values())) == len(made)
    assert all(str(path).endswith(name) for path, name in first.items())


@SETTINGS
@given(
    names=st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), max_size=8), taken=st.sets(part)
)
def test_names_are_unique_and_avoid_those_that_are_taken(names: list[list[str]], taken: set[str]) -> None:
    files = {Path("/", *parts) for parts in names}
    sources = [Source(Place(file), file.parent, file.name, 0) for file in sorted(files)]
    unique = [source.name for source in with_unique_names(sources, taken | {"a", "b/a"})]
    assert len(set(unique)) == len(files)
    assert not set(unique) & (taken | {"a", "b/a"})
    assert all(name.endswith(source.path.name) for name, source in zip(unique, sources, strict=True))


@SETTINGS
@given(
    files=st.lists(st.lists(plain, min_size=1, max_size=4).map(tuple), max_size=8),
    parts=st.lists(pattern_part, min_size=1, max_size=4),
)
def test_patterns_match_what_the_standard_library_matches(
    files: list[tuple[str, ...]], parts: list[str]
) -> None:
    pattern = "/".join(parts)
    with folder_of(files) as (root, _):
        _, found = matches(root / pattern)
        listed = glob.glob(f"{glob.escape(str(root))}/{pattern}", recursive=True)
        expected = {Path(path) for path in listed if os.path.lexists(path)}  # it lists `gone/` for `gone/**`
    if parts[-1] == "**":  # here it stands for the folder, which is searched; there for all that is in it
        assert {path for path in expected if not any(_is_below(path, top) for top in found)} == set()
    else:
        assert set(found) == expected
    assert len(found) == len(set(found))


def _is_below(path: Path, top: Path) -> bool:
    return path == top or top in path.parents


@SETTINGS
@given(
    files=paths,
    gone=st.lists(video, max_size=2),
    noise=st.lists(st.sampled_from(["", "  ", "# a comment", "  # another"]), max_size=3),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_a_list_gives_what_it_names(
    files: list[tuple[str, ...]], gone: list[str], noise: list[str], end: str
) -> None:
    with folder_of(files) as (root, made):
        there = sorted(name for name in made if not set(name) & set("\n\r"))
        lines = [*(f"./{name}" for name in there), *noise]
        missing = {name for name in gone if not set(name) & set("\n\r*[?") and name.strip() == name} - made
        lines += [f"./{name}" for name in missing]
        (root / "videos.txt").write_bytes(os.fsencode(end.join(lines)))
        if not there and not missing:
            return
        found = {source.name: source.fault for source in find_sources([root / "videos.txt"], [], 0.0)}
    assert {name for name, fault in found.items() if fault is None} == set(there)
    assert {name for name, fault in found.items() if fault is not None} == missing


@SETTINGS
@given(files=paths, known=st.data())
def test_every_source_is_known_or_new_and_a_row_is_used_once(
    files: list[tuple[str, ...]], known: st.DataObject
) -> None:
    with folder_of(files) as (root, made):
        found = find_sources([root], [], 0.3)
        some = known.draw(st.sets(st.sampled_from(sorted(made))))
        rows = [
            {"path": str(source.path), "source": source.name, "bytes": source.size, "split": source.split}
            for source in found
            if source.name in some
        ]
        matched = match_known(found, rows)
    assert {source.name for source in matched.known} == some
    assert {source.name for source in matched.new} == made - some
    assert sorted([*matched.known, *matched.new], key=lambda source: source.name) == found
