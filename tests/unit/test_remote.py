"""Shards behind a URL: a bad connection loses nothing, a bad cache is mended, what is really gone is named."""

import os
import pickle
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPMessage
from io import BytesIO
from pathlib import Path
from time import sleep
from urllib.request import Request

import fsspec
import pytest

from genie_lite.data.shards import remote as remote_module
from genie_lite.data.shards import transport
from genie_lite.data.shards.remote import Cache, Remote
from genie_lite.data.shards.shards import ShardDamage, ShardSet
from genie_lite.data.shards.token_shards import TokenShards
from genie_lite.data.shards.transport import path_of
from genie_lite.data.shards.verify import verify
from genie_lite.errors import UserError
from tests.forked import run_forked
from tests.servers import Behaviour, serving
from tests.shard_folders import flip, write_folder

FIRST = "train-000000.tar"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """No waiting, small pieces, and a cache of one's own. Gives the seconds that would have been waited."""
    waited: list[float] = []
    monkeypatch.setattr(remote_module, "sleep", waited.append)
    monkeypatch.setattr(remote_module, "CHUNK_BYTES", 1000)
    monkeypatch.setenv("GENIE_LITE_HOME", str(tmp_path / "home"))
    return waited


@pytest.fixture
def origin(tmp_path: Path) -> ShardSet:
    return write_folder(tmp_path / "origin")


def samples(shards: ShardSet) -> list:
    return [sample for split in ("train", "test") for sample in shards.samples(split)]


def cached(shards: ShardSet) -> set[str]:
    return {path.name for path in shards.folder.glob("*.tar")}


# --- a good server ---------------------------------------------------------------------------------------


def test_shards_behind_a_url_are_those_of_the_folder(origin: ShardSet) -> None:
    with serving(origin.folder) as (url, how):
        shards = ShardSet.open(url)
        assert not cached(shards)  # none is fetched before it is read
        assert samples(shards) == samples(origin)
        assert samples(shards) == samples(origin)
        assert how.gets(FIRST) == [0]  # fetched once
    assert (shards.fingerprint, shards.shards, shards.config) == (
        origin.fingerprint,
        origin.shards,
        origin.config,
    )
    assert shards.folder.is_relative_to(Path(os.environ["GENIE_LITE_HOME"]) / "shards")
    assert samples(ShardSet.open(shards.folder)) == samples(origin)  # complete by now


def test_a_shard_that_is_gone_or_of_another_size_is_known_at_opening(origin: ShardSet) -> None:
    (origin.folder / FIRST).unlink()
    (origin.folder / "test-000002.tar").write_bytes(b"short")
    with serving(origin.folder) as (url, _), pytest.warns(UserWarning, match="2 of 3 shards") as told:
        shards = ShardSet.open(url)
    assert [shard.file for shard in shards.shards] == ["train-000001.tar"]
    assert "train-000000.tar: missing (404 Not Found)" in str(told[0].message)
    assert "test-000002.tar: 5 bytes, shards.json says 10240" in str(told[0].message)
    with serving(origin.folder) as (url, _), pytest.raises(UserError, match="2 of 3 shards"):
        ShardSet.open(url, strict=True)


def test_without_verifying_only_the_index_is_asked_for(origin: ShardSet) -> None:
    (origin.folder / FIRST).unlink()
    with serving(origin.folder) as (url, how):
        shards = ShardSet.open(url, verify=False)
        assert how.asked == [("GET", "shards.json", 0)]
        for _ in range(2):
            with pytest.raises(ShardDamage, match=r"train-000000\.tar: cannot be used \(missing \(404"):
                shards.read(shards.shards[0])
        assert how.gets(FIRST) == [0]  # it is not asked for again


def test_what_was_altered_at_its_origin_is_damage(origin: ShardSet) -> None:
    flip(origin.folder / FIRST)
    with serving(origin.folder) as (url, how):
        shards = ShardSet.open(url)
        with pytest.raises(ShardDamage, match="does not match its sha256") as caught:
            shards.read(shards.shards[0])
        assert how.gets(FIRST) == [0, 0]  # the first time might have been the line's fault
    assert caught.value.file == FIRST
    assert not cached(shards)
    assert not list(shards.folder.glob(".*.part"))


def test_the_index_is_always_the_latest(tmp_path: Path, origin: ShardSet) -> None:
    with serving(origin.folder) as (url, _):
        assert samples(ShardSet.open(url)) == samples(origin)
        for file in write_folder(tmp_path / "newer", lengths=(4, 2)).folder.iterdir():
            os.replace(file, origin.folder / file.name)
        newer = ShardSet.open(origin.folder)
        assert samples(ShardSet.open(url)) == samples(newer)


def test_no_shards_behind_a_url_is_a_mistake(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, _), pytest.raises(UserError, match=r"127.*no finished shards here"):
        ShardSet.open(url)


def test_a_manifest_is_fetched_when_it_is_wanted(origin: ShardSet) -> None:
    with serving(origin.folder) as (url, _):
        shards = ShardSet.open(url)
        assert shards.manifest() is None
        (origin.folder / "manifest.jsonl").write_text("{}\n")
        path = shards.manifest()
        assert path is not None
        assert path.read_text() == "{}\n"
    assert origin.manifest() == origin.folder / "manifest.jsonl"


# --- bad connections -------------------------------------------------------------------------------------


def test_a_connection_that_breaks_is_resumed_where_it_broke(origin: ShardSet, impatient: list[float]) -> None:
    how = Behaviour(break_after=3000, breaks=4)
    with serving(origin.folder, how) as (url, _):
        assert samples(ShardSet.open(url)) == samples(origin)
    assert how.gets(FIRST) == [0, 3000, 6000, 9000]
    assert impatient[:3] == [0.5] * 3  # every attempt brought something


def test_a_connection_that_breaks_is_begun_again_without_ranges(origin: ShardSet) -> None:
    how = Behaviour(ranges=False, break_after=3000, breaks=3)
    with serving(origin.folder, how) as (url, _):
        assert samples(ShardSet.open(url)) == samples(origin)
    assert how.gets(FIRST) == [0, 3000, 3000, 3000]  # asked for, and not heeded


@pytest.mark.parametrize("ranges", [True, False])
def test_an_end_that_is_not_announced_is_not_taken_for_the_end(origin: ShardSet, ranges: bool) -> None:
    """Without a Content-Length a broken connection looks like a finished one."""
    how = Behaviour(ranges=ranges, break_after=3000, breaks=3, stated=None)
    with serving(origin.folder, how) as (url, _):
        shards = ShardSet.open(origin.folder)
        # The index may be cut short as well, and then it is no index.
        how.served["shards.json"] = how.breaks
        assert samples(ShardSet.open(url)) == samples(shards)


@pytest.mark.parametrize("stated", [-4000, 4000])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_lies_about_the_length_is_not_believed(
    origin: ShardSet, ranges: bool, stated: int
) -> None:
    """What counts is the sha256 of what came."""
    how = Behaviour(ranges=ranges)
    with serving(origin.folder, how) as (url, _):
        shards = ShardSet.open(url, verify=False)
        how.stated = stated
        if stated > 0:
            assert samples(shards) == samples(origin)
        else:  # it never sends more than it says
            with pytest.raises(ShardDamage, match=r"6240 bytes, shards\.json says 10240"):
                shards.read(shards.shards[0])


def test_a_wrong_length_at_opening_is_looked_into(origin: ShardSet) -> None:
    how = Behaviour()
    with serving(origin.folder, how) as (url, _):
        shards = ShardSet.open(url, verify=False)
        how.stated = 10
        assert shards.remote is not None
        assert shards.remote.faults(shards.shards, shards.members) == [None] * 3


def test_a_file_that_is_longer_than_it_should_be_is_damage(origin: ShardSet) -> None:
    with (origin.folder / FIRST).open("ab") as file:
        file.write(bytes(10**6))
    with serving(origin.folder) as (url, _):
        shards = ShardSet.open(url, verify=False)
        with pytest.raises(ShardDamage, match="more than 10240 bytes"):
            shards.read(shards.shards[0])


def test_a_busy_server_is_asked_again(origin: ShardSet, impatient: list[float]) -> None:
    with serving(origin.folder, Behaviour(busy=3)) as (url, _):
        assert samples(ShardSet.open(url)) == samples(origin)
    assert impatient[:3] == [1.0, 2.0, 4.0]


def test_a_server_that_stays_away_stops_the_work_and_loses_nothing(
    origin: ShardSet, impatient: list[float]
) -> None:
    """A shard that is there must not be left out for a bad network: this is no `ShardDamage`."""
    how = Behaviour()
    with serving(origin.folder, how) as (url, _):
        shards = ShardSet.open(url)
        how.break_after, how.breaks = 4000, 1
        how.status["train-000001.tar"] = 500
        with pytest.raises(UserError, match=r"train-000001\.tar cannot be fetched: 500 .*see to") as caught:
            samples(shards)
        assert not isinstance(caught.value, ShardDamage)
        assert "\n" not in str(caught.value)
        assert impatient[-5:] == [1.0, 2.0, 4.0, 8.0, 16.0]
        how.status.clear()
        assert samples(shards) == samples(origin)


def test_what_came_so_far_is_kept_for_the_next_process(origin: ShardSet) -> None:
    how = Behaviour(break_after=4000, breaks=1)
    with serving(origin.folder, how) as (url, _):
        how.served["shards.json"] = 1
        shards = ShardSet.open(url)
        real, opens = transport._Http.open, []

        def die(self, file: str, offset: int):
            opens.append(offset)
            if len(opens) == 2:
                raise KeyboardInterrupt
            return real(self, file, offset)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transport._Http, "open", die)
            with pytest.raises(KeyboardInterrupt):
                samples(shards)
        assert samples(ShardSet.open(url)) == samples(origin)
    assert how.gets(FIRST) == [0, 4000]


def test_what_was_begun_of_another_version_is_begun_again(origin: ShardSet) -> None:
    with serving(origin.folder) as (url, how):
        shards = ShardSet.open(url)
        shards.folder.mkdir(parents=True, exist_ok=True)
        (shards.folder / f".{FIRST}.part").write_bytes(b"something else")
        assert samples(shards) == samples(origin)
    assert how.gets(FIRST) == [14, 0]


@pytest.mark.parametrize("status", [401, 403, 400])
def test_a_refusal_is_told_at_once(origin: ShardSet, status: int) -> None:
    with serving(origin.folder, Behaviour(status={FIRST: status})) as (url, how):
        shards = ShardSet.open(url)
        with pytest.raises(UserError, match=rf"{FIRST}: refused by the server \({status}"):
            samples(shards)
        assert how.gets(FIRST) == [0]


def test_nobody_there_is_told(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, _):
        pass
    with pytest.raises(UserError, match=r"shards\.json cannot be fetched: Connection refused \(6 attempts"):
        ShardSet.open(url)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_redirection_within_http_is_followed(origin: ShardSet, method: str) -> None:
    with serving(origin.folder) as (goal, _), serving(origin.folder) as (url, how):
        if method == "GET":
            how.moved["shards.json"] = f"{goal}/shards.json"
        how.moved[FIRST] = f"{goal}/{FIRST}"
        shards = ShardSet.open(url, verify=method == "HEAD")
        assert not shards.skipped
        assert samples(shards) == samples(origin)
        assert (method, FIRST, 0) in how.asked


@pytest.mark.parametrize(
    "goal", ["ftp://127.0.0.1:1/shards.json", "ftp://127.0.0.1/{}", "FTP://127.0.0.1:1/a"]
)
def test_a_redirection_out_of_http_is_not_followed(
    origin: ShardSet, impatient: list[float], goal: str
) -> None:
    with (
        serving(origin.folder, Behaviour(moved={"shards.json": goal})) as (url, how),
        pytest.raises(UserError, match=r"redirects to ftp://127.*only http and https is followed") as caught,
    ):
        ShardSet.open(url)
    assert "\n" not in str(caught.value)
    assert how.gets("shards.json") == [0]
    assert not impatient  # another try would not change it


def test_a_redirection_while_sizes_are_asked_keeps_to_http_too(origin: ShardSet) -> None:
    with (
        serving(origin.folder, Behaviour(moved={FIRST: "ftp://127.0.0.1:1/a"})) as (url, how),
        pytest.raises(UserError, match="redirects to ftp://"),
    ):
        ShardSet.open(url)
    assert ("HEAD", FIRST, 0) in how.asked
    assert not how.gets(FIRST)


@pytest.mark.parametrize(
    ("begin", "goal", "is_followed"),
    [
        ("https", "http", False),
        ("https", "ftp", False),
        ("https", "https", True),
        ("http", "https", True),
        ("http", "http", True),
        ("http", "file", False),
    ],
)
def test_a_redirection_never_leaves_https(begin: str, goal: str, is_followed: bool) -> None:
    redirects, request = transport._Redirects(), Request(f"{begin}://host/a")

    def redirect() -> Request | None:
        return redirects.redirect_request(request, BytesIO(), 302, "Found", HTTPMessage(), f"{goal}://host/b")

    if is_followed:
        followed = redirect()
        assert followed is not None
        assert followed.full_url == f"{goal}://host/b"
    else:
        with pytest.raises(UserError, match=f"redirects to {goal}://host/b"):
            redirect()


# --- the cache -------------------------------------------------------------------------------------------


def test_an_entry_that_went_bad_or_away_is_fetched_again(origin: ShardSet) -> None:
    with serving(origin.folder) as (url, how):
        shards = ShardSet.open(url)
        samples(shards)
        flip(shards.folder / FIRST)
        (shards.folder / "train-000001.tar").write_bytes(b"")
        (shards.folder / "test-000002.tar").unlink()
        assert samples(shards) == samples(origin)
        assert [len(how.gets(shard.file)) for shard in shards.shards] == [2, 2, 2]


def test_a_cache_keeps_to_its_size_and_lets_go_of_what_was_not_used(tmp_path: Path, origin: ShardSet) -> None:
    room = Cache(tmp_path / "small", max_gb=2.5 * 10240 / 2**30)
    with serving(origin.folder) as (url, how):
        shards = ShardSet.open(url, cache=room)
        first, second, third = shards.shards
        shards.read(first)
        shards.read(second)
        old = shards.folder / f".{first.file}.used"
        os.utime(old, (1, 1))
        shards.read(first)  # and so the second is what was not used for longer
        os.utime(shards.folder / f".{second.file}.used", (2, 2))
        shards.read(third)
        assert cached(shards) == {first.file, third.file}
        assert shards.read(second)[0].key == "train-1-0"
        assert how.gets(second.file) == [0, 0]


def test_the_environment_limits_the_cache(origin: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENIE_LITE_CACHE_GB", str(1.5 * 10240 / 2**30))
    with serving(origin.folder) as (url, how):
        shards = ShardSet.open(url)
        assert samples(shards) == samples(origin)
        assert cached(shards) == {"test-000002.tar"}
        monkeypatch.setenv("GENIE_LITE_CACHE_GB", "")
        assert samples(ShardSet.open(url)) == samples(origin)
        assert len(cached(shards)) == 3
        assert how.gets(FIRST) == [0, 0]


@pytest.mark.parametrize("limit", ["much", "-1", "nan", "inf"])
def test_a_limit_of_the_cache_that_is_none_is_told(
    origin: ShardSet, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv("GENIE_LITE_CACHE_GB", limit)
    with (
        serving(origin.folder) as (url, _),
        pytest.raises(UserError, match=f"CACHE_GB: '{limit}' is not a number"),
    ):
        ShardSet.open(url)


def test_an_open_shard_stays_when_the_cache_lets_go_of_it(tmp_path: Path, origin: ShardSet) -> None:
    with serving(origin.folder) as (url, _):
        shards = ShardSet.open(url, cache=Cache(tmp_path / "tiny", max_gb=0.0))
        with shards.open_shard(shards.shards[0]) as file:
            samples(shards)
            assert cached(shards) == {"test-000002.tar"}
            assert file.read() == (origin.folder / FIRST).read_bytes()


def test_a_shard_that_goes_between_a_look_and_the_next_is_fetched_again(
    origin: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another process makes room."""
    real, looked = Remote._make_sure, []

    def look(self, path: Path, shard, members) -> None:
        real(self, path, shard, members)
        looked.append(path.name)
        if len(looked) == 1:
            path.unlink()

    monkeypatch.setattr(Remote, "_make_sure", look)
    with serving(origin.folder) as (url, _):
        assert samples(ShardSet.open(url)) == samples(origin)


def test_several_threads_fetch_a_shard_once(origin: ShardSet) -> None:
    with serving(origin.folder) as (url, how), ThreadPoolExecutor(8) as threads:
        sets = [ShardSet.open(url, verify=False) for _ in range(8)]
        found = list(threads.map(samples, sets))
        assert all(each == samples(origin) for each in found)
        assert how.gets(FIRST) == [0]


READ_ALL = """
import os, sys, time
from pathlib import Path
from genie_lite.data.shards import remote
from genie_lite.data.shards.shards import ShardSet

def refuse(*_):
    raise OSError("No locks available")

url, has_locks = sys.argv[1:]
remote.CHUNK_BYTES, remote.sleep = 1000, lambda _: None
if not int(has_locks):
    remote.fcntl.flock = refuse
shards = ShardSet.open(url)
Path(f"{os.getpid()}.ready").touch()
while len(list(Path.cwd().glob("*.ready"))) < 4:  # all at once from here on
    time.sleep(0.001)
print(sum(1 for split in ("train", "test") for _ in shards.samples(split)))
"""


@pytest.mark.parametrize("has_locks", [True, False])
def test_several_processes_do_not_disturb_each_other(
    origin: ShardSet, tmp_path: Path, has_locks: bool
) -> None:
    """Without locks, as on some network file systems."""
    with serving(origin.folder, Behaviour(break_after=5000, breaks=3)) as (url, how):
        how.served["shards.json"] = 3
        shards = ShardSet.open(url)
        done = run_forked(["-c", READ_ALL, url, str(int(has_locks))], tmp_path, environments=[os.environ] * 4)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["6"] * 4
        if has_locks:
            assert how.gets(FIRST) == [0, 5000, 10000]
        assert samples(ShardSet.open(shards.folder)) == samples(origin)
        assert not list(shards.folder.glob(".*.part"))


def test_a_set_behind_a_url_may_be_pickled(origin: ShardSet) -> None:
    with serving(origin.folder) as (url, _):
        shards = ShardSet.open(url)
        copy = pickle.loads(pickle.dumps(shards))
        assert copy == shards
        assert samples(copy) == samples(origin)


def test_a_cache_that_cannot_be_written_to_is_one_line(origin: ShardSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with serving(origin.folder) as (url, _), pytest.raises(UserError, match="cannot be kept here") as caught:
        ShardSet.open(url, cache=Cache(tmp_path / "file"))
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line(origin: ShardSet) -> None:
    with serving(origin.folder) as (url, _):
        shards = ShardSet.open(url)
        (shards.folder / f".{FIRST}.part").symlink_to("/dev/full")
        with pytest.raises(UserError, match=r"cannot be kept here \(No space left") as caught:
            samples(shards)
        assert not isinstance(caught.value, ShardDamage)


# --- other origins ---------------------------------------------------------------------------------------


@pytest.fixture
def in_memory(origin: ShardSet) -> Iterator[str]:
    store = fsspec.filesystem("memory")
    for file in origin.folder.iterdir():
        store.pipe_file(f"/bucket/{file.name}", file.read_bytes())
    yield "memory://bucket"
    store.rm("/bucket", recursive=True)


def test_fsspec_gives_the_same(origin: ShardSet, in_memory: str) -> None:
    assert samples(ShardSet.open(in_memory)) == samples(origin)


def test_fsspec_faults_are_found_and_resumed(
    origin: ShardSet, in_memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fsspec.filesystem("memory")
    store.rm(f"/bucket/{FIRST}")
    with pytest.warns(UserWarning, match=r"train-000000\.tar: missing \(no such file\)"):
        shards = ShardSet.open(in_memory)
    real, opened = type(store).open, []

    class Breaking:
        def __init__(self, file) -> None:
            self._file, self.seek, self.close = file, file.seek, file.close

        def read(self, num_bytes: int) -> bytes:
            if self._file.tell() >= 4000 and len(opened) < 3:
                raise ConnectionResetError("by peer")
            return self._file.read(num_bytes)

    def fragile(self, path, *args, **kwargs):
        opened.append(path)
        return Breaking(real(self, path, *args, **kwargs))

    monkeypatch.setattr(type(store), "open", fragile)
    assert shards.read(shards.shards[0]) == origin.read(origin.shards[1])
    assert len(opened) == 3


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense://bucket/shards", "nonsense://bucket/shards: cannot be opened: Protocol not known"),
        ("http://me:word@host/shards", "^host/shards: no passwords in a URL"),
        ("https://host/shards?key=1", "write {file} where"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message).replace(r"\^", "^")) as caught:
        ShardSet.open(url)
    assert "word@" not in str(caught.value)


def test_a_store_whose_package_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match="s3://bucket/shards: cannot be opened: Install s3fs"):
        ShardSet.open("s3://bucket/shards")


def test_a_place_for_the_name_may_be_given(origin: ShardSet) -> None:
    with serving(origin.folder) as (url, _):
        assert samples(ShardSet.open(f"{url}/{{file}}?signature=a%2Fb")) == samples(origin)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (Path("a"), Path("a")),
        ("a/b c", Path("a/b c")),
        ("/a:b", Path("/a:b")),
        ("file:///a/b%20c", Path("/a/b c")),
        ("s3://a", None),
        ("simplecache::s3://a", None),
        ("pipe:cat {file}", None),
    ],
)
def test_paths_and_urls_are_told_apart(place: Path | str, path: Path | None) -> None:
    assert path_of(place) == path


# --- commands --------------------------------------------------------------------------------------------


def test_a_command_gives_the_same(origin: ShardSet) -> None:
    url = f"pipe:cat {shlex.quote(str(origin.folder))}/{{file}} | cat"
    assert samples(ShardSet.open(url, allow_commands=True)) == samples(origin)
    assert not verify(url, allow_commands=True).damaged


def test_a_command_must_be_allowed(origin: ShardSet, tmp_path: Path) -> None:
    """A place out of somebody's folder or recipe must not run anything."""
    url = f"pipe:touch {tmp_path}/ran; cat {origin.folder}/{{file}}"
    opening: list[Callable[[str], object]] = [ShardSet.open, verify, TokenShards.open, transport.origin_of]
    for call in opening:
        with pytest.raises(UserError, match="pipe: runs a command; it is only taken from") as caught:
            call(url)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_what_was_allowed_stays_with_a_set_that_is_pickled(origin: ShardSet) -> None:
    shards = ShardSet.open(f"pipe:cat {origin.folder}/{{file}}", allow_commands=True)
    assert samples(pickle.loads(pickle.dumps(shards))) == samples(origin)


def test_tokens_may_come_out_of_a_command_that_is_allowed(origin: ShardSet) -> None:
    with pytest.raises(UserError, match="holds video, expected tokens"):  # so the command was run
        TokenShards.open(f"pipe:cat {origin.folder}/{{file}}", allow_commands=True)


def test_a_command_that_leaves_out_the_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"lacks \{file\}"):
        ShardSet.open("pipe:cat shards.json", allow_commands=True)


def test_a_command_that_fails_is_repeated_and_then_told(origin: ShardSet, tmp_path: Path) -> None:
    """The first time it gives a part of a shard and fails; `tries` counts."""
    script = tmp_path / "get.sh"
    script.write_text(
        f"echo x >> {tmp_path}/tries\n"
        f"if [ $(wc -l < {tmp_path}/tries) = 2 ]; then head -c 5000 {origin.folder}/$1; exit 3; fi\n"
        f"echo fetching >&2; exec cat {origin.folder}/$1\n"
    )
    shards = ShardSet.open(f"pipe:sh {script} {{file}}", allow_commands=True)
    assert samples(shards) == samples(origin)
    assert (tmp_path / "tries").read_text().count("x") == 1 + 2 + 1 + 1
    (origin.folder / FIRST).unlink()
    (shards.folder / FIRST).unlink()
    with pytest.raises(
        UserError, match=rf"{FIRST} cannot be fetched: the command ended with 1: cat: .*No such"
    ):
        samples(shards)


def test_a_command_that_gives_less_and_says_nothing_is_no_damage(origin: ShardSet) -> None:
    """`curl | cat` ends well without a network too."""
    shards = ShardSet.open(f"pipe:cat {origin.folder}/{{file}}", allow_commands=True)
    (origin.folder / FIRST).write_bytes(b"")
    with pytest.raises(UserError, match="it ended at byte 0 of 10240") as caught:
        samples(shards)
    assert not isinstance(caught.value, ShardDamage)


def _is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_command_that_hangs_is_ended(
    origin: ShardSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(transport, "STALL_S", 0.05)
    monkeypatch.setattr(remote_module, "RETRY_S", (0.0,))
    url = f"pipe:sleep 600 & echo $! > {tmp_path}/pid; wait; echo {{file}}"
    with pytest.raises(UserError, match="the command gave nothing for"):
        ShardSet.open(url, allow_commands=True)
    while _is_running((tmp_path / "pid").read_text().strip()):  # what was killed takes a moment to end
        sleep(0.001)


def test_an_index_cannot_run_a_command() -> None:
    """Names are plain, and they reach the shell quoted all the same."""
    stream = transport.origin_of("pipe:echo {file}", allow_commands=True).open("a; echo b", 0)
    assert stream.read(100) == b"a; echo b\n"
    stream.close()


# --- verifying -------------------------------------------------------------------------------------------


def test_what_lies_behind_a_url_is_verified_and_not_kept(
    origin: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even until the end: all shards together may be larger than the disk."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    kept: list[int] = []
    with serving(origin.folder, Behaviour(break_after=3000, breaks=2)) as (url, _):
        found = verify(
            url,
            deep=True,
            progress=lambda *_: kept.append(len(list((tmp_path / "temporary").glob("**/*.tar")))),
        )
    assert (found.is_whole, found.place) == (True, url)
    assert kept == [0, 0, 0]
    assert not list((tmp_path / "temporary").iterdir())
    assert not list(Path(os.environ["GENIE_LITE_HOME"]).glob("**/*.tar"))


def test_a_good_cache_does_not_stand_in_for_a_bad_origin(origin: ShardSet) -> None:
    with serving(origin.folder) as (url, _):
        samples(ShardSet.open(url))
        flip(origin.folder / FIRST)
        (origin.folder / "train-000001.tar").unlink()
        (origin.folder / "manifest.jsonl").write_text(
            '{"source": "a", "status": "filtered", "clips": 0, "frames": 0}\n'
        )
        found = verify(url)
    assert [shard.fault for shard in found.shards] == [
        "does not match its sha256 in shards.json",
        "missing (404 Not Found)",
        None,
    ]
    assert found.sources == 1
    assert found.faults == ("manifest.jsonl accounts for 0 samples, shards.json for 6",)
