"""The end of a round: what it adds to a folder of shards, in an order that may be broken off anywhere."""

import json
import shutil
from collections import Counter
from pathlib import Path

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.curate import SIGNATURES_FILE
from genie_lite.data.ingest.manifest import Row, read_rows, write_rows
from genie_lite.data.ingest.packer import Part
from genie_lite.data.ingest.plan import AGAIN, PLAN_FILE
from genie_lite.data.shards.index import INDEX_FILE, MANIFEST_FILE, index_of, load_index
from genie_lite.errors import UserError
from genie_lite.files import write_bytes


def finish(out: Path, work: Path, config: IngestConfig, parts: list[Part]) -> None:
    """Declare a round finished. What it adds is merged by name, so that doing it twice changes nothing."""
    is_first = not (out / INDEX_FILE).is_file()
    rows = {row["source"]: row for row in ([] if is_first else read_rows(out))}
    rows |= {row["source"]: row for part in parts for row in part.rows}
    write_rows(out, rows.values())
    shards = {shard.file: shard for shard in ([] if is_first else load_index(out).shards)}
    shards |= {part.shard.file: part.shard for part in parts if part.shard is not None}
    if shards:
        _keep_signatures(out, parts)
        index = index_of(
            [shards[file] for file in sorted(shards, key=_order)], config.model_dump(mode="json")
        )
        write_bytes(out / INDEX_FILE, (json.dumps(index) + "\n").encode())
    (work / PLAN_FILE).unlink()  # from here on the rest of the folder means nothing
    shutil.rmtree(work)
    if not shards:
        raise UserError(_nothing_usable(out, list(rows.values())))


def _order(file: str) -> tuple[bool, str]:
    return not file.startswith("train"), file


def read_signatures(out: Path) -> dict[str, str]:
    """The signatures of the clips that a folder of shards holds, by key.

    Raises:
        UserError: their file is damaged.
    """
    path = out / SIGNATURES_FILE
    if not path.is_file():
        return {}
    try:
        return {line["key"]: line["signature"] for line in map(json.loads, path.read_bytes().splitlines())}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error!r}); copy it again, or {AGAIN}") from error


def _keep_signatures(out: Path, parts: list[Part]) -> None:
    new = {key: signature for part in parts for key, signature in part.signatures.items()}
    if not new:
        return
    lines = [
        json.dumps({"key": key, "signature": value}) + "\n"
        for key, value in (read_signatures(out) | new).items()
    ]
    write_bytes(out / SIGNATURES_FILE, "".join(lines).encode())


def _nothing_usable(out: Path, rows: list[Row]) -> str:
    reasons = Counter(row["reason"] for row in rows)
    told = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    return f"none of {len(rows)} videos can be used: {told}; every reason is in {out / MANIFEST_FILE}"
