"""What codes are called stays with the run, and nothing else can be put there."""

import json
import threading
import warnings
from pathlib import Path

import pytest

from genie_lite import pretrained
from genie_lite.errors import UserError
from genie_lite.play.names import Names
from genie_lite.play.shelf import Shelf


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a run, and a home that is not the user's."""
    monkeypatch.setenv("GENIE_LITE_HOME", str(tmp_path / "home"))
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def names_of(run: Path, lam: str = "a") -> Names:
    return Names(Shelf(run, "key"), lam, 8)


def test_a_name_is_there_the_next_time(run: Path) -> None:
    names = names_of(run)
    assert names.get() == {}
    assert names.set(3, "  jump ") == {3: "jump"}
    names.set(0, "très à gauche 🐸")
    assert names_of(run).get() == names.get() == {0: "très à gauche 🐸", 3: "jump"}
    assert (run / "play" / "names.json").is_file()


def test_an_empty_name_takes_it_away(run: Path) -> None:
    names = names_of(run)
    names.set(3, "jump")
    assert names.set(3, " ") == {}
    assert names_of(run).get() == {}


@pytest.mark.parametrize(
    ("code", "name", "words"),
    [
        (8, "jump", "code: found 8, expected 0 to 7"),
        (-1, "jump", "code: found -1"),
        (True, "jump", "code: found True"),
        (0, "j" * 41, "name: found 41 characters, expected at most 40"),
        (0, "a\nb", r"name: found 'a\\nb', expected characters that can be printed"),
        (0, "a\u202eb", "name: found"),
        (0, "a\ud800b", "name: found"),
    ],
)
def test_what_is_no_name_is_refused(run: Path, code: int, name: str, words: str) -> None:
    names = names_of(run)
    with pytest.raises(UserError, match=f"^{words}"):
        names.set(code, name)
    assert names.get() == {}
    assert not (run / "play").exists()


def test_names_of_other_codes_are_left_out(run: Path) -> None:
    names_of(run).set(3, "jump")
    with pytest.warns(UserWarning, match=r"play/names\.json: names codes of another latent action model"):
        other = names_of(run, lam="b")
    assert other.get() == {}


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"format": 2}', "[" * 100_000]
    + [json.dumps({"format": 1, "lam": "a", "names": each}) for each in ([1], {"x": "a"}, {"1": "a\nb"})],
)
def test_a_file_that_holds_no_names_is_told(run: Path, text: str) -> None:
    (run / "play").mkdir()
    (run / "play" / "names.json").write_text(text)
    with pytest.raises(UserError, match=r"^play/names\.json: not names of codes .*; delete it$"):
        names_of(run)


def test_another_process_loses_no_name(run: Path) -> None:
    first, second = names_of(run), names_of(run)
    first.set(1, "left")
    second.set(2, "right")
    assert second.get() == names_of(run).get() == {1: "left", 2: "right"}


def test_many_threads_lose_no_name(run: Path) -> None:
    names = names_of(run)
    threads = [threading.Thread(target=names.set, args=(code, f"name {code}")) for code in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names_of(run).get() == {code: f"name {code}" for code in range(8)}


def test_a_run_that_cannot_be_written_has_its_names_at_home(run: Path, tmp_path: Path) -> None:
    (run / "play").write_text("in the way")
    with pytest.warns(UserWarning, match=r"run/play: cannot be written .* is kept in .*home/play/key"):
        names_of(run).set(3, "jump")
    assert names_of(run).get() == {3: "jump"}
    assert (tmp_path / "home" / "play" / "key" / "names.json").is_file()


def test_where_nothing_can_be_written_it_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "play").write_text("in the way")
    (tmp_path / "home").write_text("in the way")
    names = names_of(run)
    monkeypatch.setattr(warnings, "warn", lambda *_, **__: None)
    with pytest.raises(UserError, match=r"names\.json: cannot be written"):
        names.set(3, "jump")
    assert names.get() == {}


def test_nothing_is_written_into_the_toolkit(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", run.parent)
    names_of(run).set(3, "jump")
    assert not (run / "play").exists()
    assert names_of(run).get() == {3: "jump"}
