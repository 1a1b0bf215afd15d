"""Verdicts on clips come from a spreadsheet; what cannot be meant is told by file and line."""

from pathlib import Path

import pytest

from genie_lite.data.quality.marks import QualityLabels, read_quality_labels
from genie_lite.errors import UserError


def read(tmp_path: Path, text: str | bytes) -> QualityLabels:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_quality_labels(path)


@pytest.mark.parametrize(
    ("labels", "kind", "good", "bad"),
    [
        (["good", "bad", "good"], "good or bad", "ac", "b"),
        (["1", "0", "1"], "0 or 1", "ac", "b"),
        (["1", "5", "2", "4"], "1 to 5", "bd", "ac"),
        (["1", "3", "5"], "1 to 5", "c", "a"),
    ],
)
def test_three_kinds_of_labels_are_understood(
    tmp_path: Path, labels: list[str], kind: str, good: str, bad: str
) -> None:
    rows = [f"{name},{label}" for name, label in zip("abcd", labels, strict=False)]
    found = read(tmp_path, "\n".join(["key,label", *rows]))
    assert (found.column, found.kind) == ("key", kind)
    assert found.is_good == {name: name in good for name in "abcd" if name in good + bad}
    assert found.num_undecided == labels.count("3")


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    text = (
        '\ufeffLabel , Source,note\r\nGood,"a, b.mp4","nice, bright"\r\n\r\n BAD,c.mp4,\r\n,d.mp4,later\r\n'
    )
    found = read(tmp_path, text)
    assert found.column == "source"
    assert found.is_good == {"a, b.mp4": True, "c.mp4": False}, "a row without a label is not looked at yet"


def test_a_name_that_is_no_valid_text_survives(tmp_path: Path) -> None:
    found = read(tmp_path, b"source,label\ncaf\xe9.mp4,good\n")
    assert found.is_good == {"caf\udce9.mp4": True}


def test_of_key_and_source_the_key_counts(tmp_path: Path) -> None:
    found = read(tmp_path, "source,key,label\na.mp4,a-0,good\na.mp4,a-1,bad\n")
    assert (found.column, found.is_good) == ("key", {"a-0": True, "a-1": False})


def test_the_same_verdict_twice_counts_once(tmp_path: Path) -> None:
    found = read(tmp_path, "key,label\na,4\nb,1\na,5\n")
    assert found.is_good == {"a": True, "b": False}
    assert found.num_disagreeing == 0


def test_verdicts_that_differ_are_left_out_and_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"1 labelled twice .* 'a' is 'good' in line 2 and 'bad' in line 4"):
        found = read(tmp_path, "key,label\na,good\nb,bad\na,bad\nc,good\n")
    assert found.is_good == {"b": False, "c": True}
    assert found.num_disagreeing == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: found ''; expected a header 'key,label' or 'source,label'"),
        ("clip,label\na,good\n", "line 1: found 'clip,label'; expected a header"),
        ("key,label,label\na,good,bad\n", "line 1: found 'key,label,label'"),
        ("key;label\na;good\n", "line 1: found 'key;label'"),
        ("key,label\na,good\nb,god\n", "line 3: found label 'god'; expected good or bad$"),
        ("key,label\na,6\n", "line 2: found label '6'; expected good or bad; 0 or 1; 1 to 5$"),
        ("key,label\na,0\nb,1\nc,5\n", "line 4: found label '5'; expected 0 or 1, as the rows before"),
        ("key,label\na,good\nb,1\n", "line 3: found label '1'; expected good or bad, as the rows before"),
        ("key,label\na,good\nb, c,bad\n", "line 3: found 3 cells, expected 2 .*quotes around a name"),
        ("key,label\na\n", "line 2: found 1 cells, expected 2"),
        ("key,label\n,good\n", "line 2: no key"),
        ("key,label\n", "no label below the header"),
        ("key,label\na,\n", "no label below the header"),
        ('key,label\n"a,good\n', "not CSV"),
    ],
)
def test_what_cannot_be_meant_is_told_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "labels.csv"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; expected a CSV file"):
        read_quality_labels(tmp_path / "none.csv")
