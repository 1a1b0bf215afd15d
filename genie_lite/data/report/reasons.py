"""Reasons, counted by what they have in common: messages that differ in a figure or in a name are one reason.

truncated: 1.2 s decoded of 3.4 s  }
truncated: 0.8 s decoded of 3.4 s  }   truncated: … s decoded of 3.4 s
duplicate of dogs/rex.mp4          }
duplicate of cats/tom.mp4          }   duplicate of another
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

NUMBER = re.compile(r"\d+(?:\.\d+)?")
DETAIL = re.compile(r"\s*\([^()]*\)")  # FFmpeg's own words, a signal's name
COPY = re.compile(r"(?s)^(.{0,40}?\bduplicate of)\s.+")  # what follows is a name, of any characters
UNKNOWN = "…"
MOST_KINDS = 200  # of hostile messages every one may be another kind
OTHER = ("other reasons",)

Kind = tuple[str, ...]


@dataclass
class _Count:
    numbers: list[str]
    num: int
    example: str


class Reasons:
    """Counts messages. Each has a kind, which `add` returns, and an example, the first one's."""

    def __init__(self) -> None:
        self._counts: dict[Kind, _Count] = {}

    def add(self, message: str, example: str, num: int = 1) -> Kind:
        """Count a message `num` times; `example`: whom it is about."""
        kind, numbers = _parse(message)
        if kind not in self._counts and len(self._counts) >= MOST_KINDS:
            kind, numbers = OTHER, []
        found = self._counts.get(kind)
        if found is None:
            self._counts[kind] = _Count(numbers, num, example)
            return kind
        found.num += num
        found.numbers = [a if a == b else UNKNOWN for a, b in zip(found.numbers, numbers, strict=True)]
        return kind

    def __iter__(self) -> Iterator[tuple[Kind, str, int, str]]:
        """Kind, wording, count and example of each, the commonest first."""
        for kind, count in sorted(self._counts.items(), key=lambda item: (-item[1].num, item[0])):
            yield kind, _wording(kind, count.numbers), count.num, count.example


def _parse(message: str) -> tuple[Kind, list[str]]:
    """The text around the numbers, and the numbers."""
    plain = DETAIL.sub("", COPY.sub(r"\1 another", message)).strip() or "no reason given"
    return tuple(NUMBER.split(plain)), NUMBER.findall(plain)


def _wording(kind: Kind, numbers: list[str]) -> str:
    return kind[0] + "".join(number + text for number, text in zip(numbers, kind[1:], strict=True))
