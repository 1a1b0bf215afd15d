"""The plan of one round of an ingest: which sources become shards, numbered from where, by which settings.

It is written before anything is read and is what every process of the round works from, also one that is
started after another was killed.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.sources.source import Source
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError
from genie_lite.files import read_json, write_bytes

PLAN_FILE = "plan.json"
AGAIN = "delete the folder and ingest again"
ELSEWHERE = "use another folder, or delete this one to ingest again"


@dataclass(frozen=True)
class Plan:
    """One round.

    sources: in the order of their names. config: of the samples. first: number of the first new shard of each
    split. is_drawn: nobody has chosen what is tested, so a side that would be empty may be given a source.
    """

    sources: tuple[Source, ...]
    config: dict[str, Any]
    first: dict[str, int]
    is_drawn: bool

    def write(self, file: Path) -> None:
        """Write the plan, whole or not at all."""
        write_bytes(file, json.dumps(self._to_json()).encode())

    @classmethod
    def read(cls, file: Path) -> "Plan":
        """The plan in a file.

        Raises:
            UserError: the file is damaged.
        """
        tree = read_json(file, "the plan of an unfinished ingest", AGAIN)
        try:
            sources = tuple(_source(line) for line in tree["sources"])
            return cls(sources, dict(tree["config"]), dict(tree["first"]), bool(tree["is_drawn"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file}: not the plan of an unfinished ingest ({error!r}); {AGAIN}") from error

    def _to_json(self) -> dict[str, Any]:
        lines = [
            asdict(source) | {"place": source.place.to_json(), "root": str(source.root)}
            for source in self.sources
        ]
        return {"config": self.config, "first": self.first, "is_drawn": self.is_drawn, "sources": lines}


def expect_same_config(out: Path, old: dict[str, Any], config: IngestConfig) -> None:
    """Raise where a folder was begun with other settings.

    Raises:
        UserError: it was; the message names the settings.
    """
    new = config.model_dump(mode="json")
    if changed := [key for key in old | new if old.get(key) != new.get(key)]:
        told = ", ".join(f"{key} was {old.get(key)}, now {new.get(key)}" for key in changed)
        raise UserError(f"{out}: was made with other settings: {told}; {ELSEWHERE}")


def expect_same_sources(out: Path, old: set[tuple[str, str, int]], sources: Sequence[Source]) -> None:
    """Raise where a folder was made from other sources: name, split and size of each.

    Raises:
        UserError: it was; the message counts and names them.
    """
    new = {(source.name, source.split, source.size) for source in sources}
    if new == old:
        return
    told = "; ".join(
        f"{len(names)} {what} ({min(names)[0]}{', ...' if len(names) > 1 else ''})"
        for what, names in (("new", new - old), ("gone or changed", old - new))
        if names
    )
    raise UserError(f"{out}: was made from other videos: {told}; {ELSEWHERE}")


def _source(line: dict[str, Any]) -> Source:
    return Source(**line | {"place": Place.from_json(line["place"]), "root": Path(line["root"])})
