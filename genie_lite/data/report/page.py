"""From what is known about a folder of shards to one HTML page that needs nothing else: no script, no request."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from genie_lite.data.report.contact_sheet import Gallery
from genie_lite.data.report.facts import ClipFact
from genie_lite.data.report.histogram import Histogram, histogram_svg
from genie_lite.data.report.survey import Row, Survey, length_s, number, text
from genie_lite.data.report.wording import clock, count, duration, edge, percent, short, size, visible

Tree = Mapping[str, Any]
Progress = Callable[[int, int], None]

MOST_BARS = 20
MOST_VALUES = 8
MOST_ROWS = 1000  # of sources that were set aside, over all reasons
MOST_COPIES = 40
MOST_FOLDERS = 25
OPEN_ROWS = 12  # a list of so few is not folded

STATUSES = {"ingested": "Ingested", "filtered": "Filtered", "quarantined": "Quarantined"}
# Sections of equal build: name in the tree, title.
VALUES = (("codecs", "Codec"), ("sizes", "Width × height"), ("rates", "Rate"), ("licences", "Licence"))
# Of the table of sources that were set aside: name, heading, whether it is a number.
COLUMNS = (
    ("length", "Length", True),
    ("bytes", "Bytes", True),
    ("pixels", "Pixels", True),
    ("rate", "Rate", True),
    ("codec", "Codec", False),
    ("found", "Found", False),
)
TREATED = {
    "letterbox": "had black bars, which were cut off",
    "rotation": "had to be turned upright",
    "frozen": "had frozen frames",
    "repeated": "had some frames repeated to reach the rate",
    "moved_from": "went to the other split, so that both have a usable video",
}
# Figures of the clips: what stands at their lower and at their upper end, digits shown.
ENDS = {
    "motion": ("Motion", "Least motion", "Most motion", 2),
    "brightness": ("Brightness", "Darkest", "Brightest", 0),
    "quality": ("Quality", "Lowest quality", "Highest quality", 2),
}
GLOSSARY = (
    ("Source", "One video as it was given: a file, a member of a tar, an episode of a data set."),
    ("Clip", "A continuous piece of one shot, at one rate and size: one sample of the shards."),
    ("Filtered", "The video is in order, but nothing of it is worth training on."),
    ("Quarantined", "The video is broken or cannot be read to its end; none of it is used."),
    (
        "Length",
        "From a video's first decoded frame to the end of its last. Of a broken video: as far as it goes.",
    ),
    (
        "Motion",
        "Mean absolute change of luma from frame to frame, 0 to 255, on thumbnails of 64 pixels; 0 is a still.",
    ),
    ("Brightness", "Mean luma, 0 (black) to 255 (white)."),
    ("Quality", "How good a classifier that was trained on labels finds a clip, 0 to 1; where one was used."),
)


def render(
    tree: Tree, survey: Survey, facts: Sequence[ClipFact], progress: Progress = lambda done, total: None
) -> str:
    """The page.

    Args:
        tree: what report.json holds.
        survey: of the sources.
        facts: of the clips.
        progress: called with (pictures done, pictures in all).
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    for each in (clock, count, duration, percent, short, size):
        environment.filters[each.__name__] = each
    return environment.get_template("report.html.jinja").render(
        tree=tree,
        parts=_parts(tree["sources"]),
        times=_times(tree["video"]),
        statuses=STATUSES,
        reasons=_bars(tree["reasons"], "sources"),
        dropped=_bars(tree["dropped"], "clips"),
        values=[(title, _values(tree[name])) for name, title in VALUES if tree[name]],
        charts=_charts(tree),
        gallery=Gallery(survey, facts, float(tree["config"]["rate_hz"])).tree(progress) if facts else None,
        ends=ENDS,
        aside=_set_aside(tree, survey),
        treated=[
            (tree["treated"][name], words) for name, words in TREATED.items() if tree["treated"].get(name)
        ],
        copies=_copies(tree["duplicates"]["of"], facts),
        folders=tree["folders"][:MOST_FOLDERS] if len(tree["folders"]) > 1 else [],
        glossary=GLOSSARY,
        open_rows=OPEN_ROWS,
    )


def _parts(sources: Tree) -> list[dict[str, Any]]:
    """The sources by what became of them, for a bar of shares."""
    total = max(sources["all"], 1)
    return [
        {"name": name, "style": status, "num": sources[status], "share": sources[status] / total}
        for status, name in STATUSES.items()
    ]


def _times(video: Tree) -> list[dict[str, Any]]:
    """The seconds by what became of them. What no figure accounts for are dropped clips and ends of shots."""
    rest = video["ingested"] - sum(video[name] for name in ("kept", "black", "frozen", "short"))
    parts = (
        ("Kept", "ingested", video["kept"]),
        ("Black", "black", video["black"]),
        ("Frozen", "frozen", video["frozen"]),
        ("In short shots", "brief", video["short"]),
        ("In dropped clips, at ends", "rest", rest),
        ("In filtered videos", "filtered", video["filtered"]),
        ("In quarantined videos", "quarantined", video["quarantined"]),
    )
    total = sum(max(seconds, 0.0) for _, _, seconds in parts) or 1.0
    return [
        {"name": name, "style": style, "seconds": seconds, "share": seconds / total}
        for name, style, seconds in parts
        if seconds > 0.05
    ]


def _bars(rows: Sequence[Tree], what: str) -> dict[str, Any]:
    most = max((row[what] for row in rows), default=1)
    return {
        "rows": [dict(row) | {"num": row[what], "width": 100 * row[what] / most} for row in rows[:MOST_BARS]],
        "more": len(rows[MOST_BARS:]),
        "more_num": sum(row[what] for row in rows[MOST_BARS:]),
    }


def _values(rows: Sequence[Tree]) -> list[dict[str, Any]]:
    shown = [dict(row) for row in rows[:MOST_VALUES]]
    if hidden := rows[MOST_VALUES:]:
        sums = {name: sum(row[name] for row in hidden) for name in ("sources", "seconds")}
        shown.append({"value": f"{len(hidden)} others"} | sums)
    most = max(row["sources"] for row in shown)
    return [row | {"width": 100 * row["sources"] / most} for row in shown]


def _charts(tree: Tree) -> dict[str, str]:
    """Drawings by name; what is unknown is left out."""
    config = tree["config"]
    quality = config.get("quality")
    axes: dict[str, tuple[str, str, dict[str, Any]]] = {
        "source_seconds": ("Lengths of the videos", "length", {"show": edge}),
        "clip_seconds": ("Lengths of the clips", "length", {"show": edge}),
        "motion": (
            "Motion of the clips",
            "change of luma per frame, of 255",
            {"mark": _filter(config, "min_motion")},
        ),
        "brightness": ("Brightness of the clips", "mean luma, of 255", {}),
        "quality": (
            "Quality of the clips",
            "score",
            {"mark": _filter(quality if isinstance(quality, dict) else {}, "min_score")},
        ),
    }
    return {
        name: histogram_svg(_histogram(tree[name]), title, x_label, **options)
        for name, (title, x_label, options) in axes.items()
        if tree[name] is not None
    }


def _histogram(plain: Tree) -> Histogram:
    values: dict[str, Any] = {field.name: plain[field.name] for field in fields(Histogram)}
    values |= {name: tuple(plain[name]) for name in ("edges", "counts")}  # JSON knows lists alone
    return Histogram(**values)


def _filter(config: Tree, name: str) -> tuple[float, str] | None:
    """Where a filter is set, to be marked; None where it is off."""
    value = number(config, name)
    return (value, name) if value else None


def _copies(of: Sequence[Tree], facts: Sequence[ClipFact]) -> list[dict[str, Any]]:
    """What was there twice; the keys of clips told by their source's name."""
    shown = of[:MOST_COPIES]
    wanted = {each["of"] for each in shown}
    names = {fact.key: f"{fact.source}, clip {fact.segment}" for fact in facts if fact.key in wanted}
    return [dict(each) | {"of": names.get(each["of"], each["of"])} for each in shown]


def _set_aside(tree: Tree, survey: Survey) -> dict[str, Any]:
    """The filtered and the quarantined sources by reason, each reason with its fair part of `MOST_ROWS`."""
    groups = [
        {"status": status, "reason": wording, "num": num, "rows": survey.listed[status, kind]}
        for status, reasons in survey.reasons.items()
        for kind, wording, num, _ in reasons
    ]
    most = fair_part([len(group["rows"]) for group in groups], MOST_ROWS)
    for group in groups:
        group["rows"] = [_aside_row(row, group["reason"]) for row in group["rows"][:most]]
        group["columns"] = [column for column in COLUMNS if any(row[column[0]] for row in group["rows"])]
    groups.sort(key=lambda group: -group["num"])
    shown = sum(len(group["rows"]) for group in groups)
    return {"groups": groups, "shown": shown, "hidden": sum(group["num"] for group in groups) - shown}


def fair_part(sizes: Sequence[int], most: int) -> int:
    """The largest number that each may have so that together they have at most `most`, but at least 1."""
    part = max(sizes, default=0)
    while part > 1 and sum(min(size, part) for size in sizes) > most:
        part -= 1
    return part


def _aside_row(row: Row, wording: str) -> dict[str, Any]:
    height, width = number(row, "height"), number(row, "width")
    rate_hz, num_bytes = number(row, "source_rate_hz"), number(row, "bytes")
    return {
        "source": text(row, "source"),
        "length": duration(seconds) if (seconds := length_s(row)) is not None else "",
        "pixels": f"{width:.0f} × {height:.0f}" if height and width else "",
        "rate": f"{rate_hz:.4g} Hz" if rate_hz else "",
        "codec": text(row, "codec"),
        "bytes": "" if num_bytes is None else size(num_bytes),
        "found": _found(row, wording),
    }


def _found(row: Row, wording: str) -> str:
    """What the reason's wording does not say: the reason in full, and the figures behind it."""
    reason, frames = text(row, "reason"), number(row, "source_frames")
    black = number(row, "black")
    told = [short(reason, 400)] if reason != wording else []
    told += [f"{number(row, 'shots'):.0f} shots"] if (number(row, "shots") or 0) > 1 else []
    told += (
        [f"{percent(min(black / frames, 1.0))} black"] if black and frames and "black" not in reason else []
    )
    for name, words, said in (
        ("short", "frames in short shots", "no shot"),
        ("frozen", "frames frozen", "frozen"),
        ("repeated", "frames repeated", "repeats"),
    ):
        told += [f"{num:.0f} {words}"] if (num := number(row, name)) and said not in reason else []
    dropped = row.get("dropped")
    if isinstance(dropped, dict):
        told += [f"{num} × {short(str(what))}" for what, num in list(dropped.items())[:5]]
    return "; ".join(told)
