"""A person's verdicts on clips: a CSV file that a spreadsheet can write.

    key,label                     or   source,label
    dog_mp4-0f3a-00002,good            holidays/dog.mp4,5

`key` names one clip as the shards do, `source` a video and with it all its clips (where there are both, the key
counts); other columns are for the reader. In one file all labels are of one kind: good or bad, 1 or 0, or marks
from 5 (best) to 1. Marks of 4 and 5 are good, 1 and 2 are bad, and a 3 is no verdict: it is left out, as are clips
on which verdicts differ. A row without a label is one that nobody has looked at yet.
"""

import csv
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genie_lite.errors import UserError

Column = Literal["key", "source"]
COLUMNS: tuple[Column, ...] = ("key", "source")
EXPECTED = "a header 'key,label' or 'source,label'"
# What each label says of a clip, by kind; None: nothing.
KINDS: Mapping[str, Mapping[str, bool | None]] = {
    "good or bad": {"good": True, "bad": False},
    "0 or 1": {"1": True, "0": False},
    "1 to 5": {"5": True, "4": True, "3": None, "2": False, "1": False},
}


@dataclass(frozen=True)
class QualityLabels:
    """What is good and what is bad, by the name in `column`.

    kind: of the labels. num_undecided: names without a verdict. num_disagreeing: names with different ones.
    """

    column: Column
    kind: str
    is_good: Mapping[str, bool]
    num_undecided: int
    num_disagreeing: int


@dataclass(frozen=True)
class _Row:
    line: int
    name: str
    label: str


def read_quality_labels(path: Path) -> QualityLabels:
    """Read and check a file of verdicts.

    Raises:
        UserError: missing, another header, a row of another length, a label of no kind or of another kind.
    """
    column, rows = _read(path)
    kind = _kind_of(path, rows)
    verdicts: dict[str, dict[bool | None, _Row]] = {}
    for row in rows:
        verdicts.setdefault(row.name, {}).setdefault(KINDS[kind][row.label], row)
    _warn_of_quarrels(path, verdicts)
    agreed = {name: next(iter(found)) for name, found in verdicts.items() if len(found) == 1}
    return QualityLabels(
        column=column,
        kind=kind,
        is_good={name: verdict for name, verdict in agreed.items() if verdict is not None},
        num_undecided=sum(verdict is None for verdict in agreed.values()),
        num_disagreeing=len(verdicts) - len(agreed),
    )


def _read(path: Path) -> tuple[Column, list[_Row]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a CSV file with {EXPECTED}")
    # Names of files need not be valid text; a spreadsheet's mark at the beginning is no part of the header.
    text = path.read_bytes().decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        column: Column | None = next((name for name in COLUMNS if name in header), None)
        if column is None or header.count("label") != 1:
            raise UserError(f"{path}: line 1: found {','.join(header)!r}; expected {EXPECTED}")
        cells = ((reader.line_num, cells) for cells in reader)
        return column, list(_rows(path, cells, header, column))
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: not CSV ({error}); expected {EXPECTED}") from error


def _rows(
    path: Path, numbered: Iterable[tuple[int, list[str]]], header: list[str], column: Column
) -> Iterator[_Row]:
    name_at, label_at = header.index(column), header.index("label")
    for line, cells in numbered:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise UserError(
                f"{path}: line {line}: found {len(cells)} cells, expected {len(header)} ({','.join(header)}); "
                "put quotes around a name with a comma in it"
            )
        name, label = cells[name_at].strip(), cells[label_at].strip().lower()
        if not name:
            raise UserError(f"{path}: line {line}: no {column}; expected the name of what is {label!r}")
        if label:
            yield _Row(line, name, label)


def _kind_of(path: Path, rows: list[_Row]) -> str:
    """The kind that fits all labels; a file of nothing but 1 fits two and will be refused for the lack of bad ones."""
    if not rows:
        raise UserError(f"{path}: no label below the header; expected one for each clip that was looked at")
    fitting = list(KINDS)
    for row in rows:
        left = [kind for kind in fitting if row.label in KINDS[kind]]
        if not left:
            told = f"{path}: line {row.line}: found label {row.label!r}; expected {'; '.join(fitting)}"
            is_known = any(row.label in labels for labels in KINDS.values())
            raise UserError(f"{told}, as the rows before" if is_known else told)
        fitting = left
    return fitting[0]


def _warn_of_quarrels(path: Path, verdicts: Mapping[str, Mapping[bool | None, _Row]]) -> None:
    quarrels = [list(found.values()) for found in verdicts.values() if len(found) > 1]
    if quarrels:
        first, second = quarrels[0][:2]
        warnings.warn(
            f"{path}: {len(quarrels)} labelled twice with different verdicts, left out; first: {first.name!r} is "
            f"{first.label!r} in line {first.line} and {second.label!r} in line {second.line}",
            stacklevel=3,
        )
