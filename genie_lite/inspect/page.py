"""From an inspection's tree and pictures to one HTML page that needs nothing else: no script, no request.

Names of sources and actions come from strangers: everything is escaped, and what cannot be seen is spelt out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import genie_lite.evals.page as report
from genie_lite.data.report.wording import percent, short, visible
from genie_lite.evals.code_table import actions_of, code_table
from genie_lite.evals.pictures import data_uri
from genie_lite.files import write_bytes
from genie_lite.inspect.pictures import Pictures
from genie_lite.inspect.rows import rows_of
from genie_lite.inspect.scatter import scatter

Tree = Mapping[str, Any]

SHOWN_HZ = 4.0  # films of a few frames; faster, the eye cannot compare them
STILL = 2  # frame of a film that stands for it
GRID_PX = 920  # width that the columns of the grid share on a wide screen
# Groups in the order of the page: heading, what the checks under it ask.
GROUPS = {
    "use": (
        "Are the codes in use?",
        "A code that never occurs says nothing, and one that always occurs no more.",
    ),
    "control": (
        "Do they decide what happens next?",
        "The right code has to make a better prediction than none and than a wrong one.",
    ),
    "leak": (
        "Do they carry the action, and nothing else?",
        "A bottleneck that is too wide copies the next frame. Such codes predict well and mean nothing.",
    ),
    "structure": (
        "Do they mean the same everywhere?",
        "A code should do the same from every frame, undo what its opposite does, and add up over time.",
    ),
    "actions": (
        "Do they know the true action?",
        "Small readers are fitted on labelled transitions and scored on other episodes.",
    ),
}
OUTCOMES = {"holds": "holds", "unclear": "unclear", "fails": "fails", "told": "no threshold"}
PROJECTIONS = {
    "pca": "its two main components. What lies apart is apart; what lies together may be apart in a direction that is "
    "not drawn.",
    "umap": "UMAP (15 neighbours, min_dist 0.5). Groups mean something; how far apart they are drawn does not.",
}
APART = ("title", "left_out", "options")  # of `about`: shown elsewhere
TRANSFER = {
    "a": "A, as recorded",
    "a_foretold": "A, foretold with its own codes",
    "b_driven": "B, driven by A's codes",
    "b": "B, as recorded",
}
GLOSSARY = (
    (
        "Latent action, code",
        "A symbol, or a short vector, inferred from two frames, that names what changed.",
    ),
    (
        "Menu",
        "A few centres of a continuous bottleneck's vectors, which stand for it where a code is asked for.",
    ),
    ("PSNR", "Closeness of pictures in dB, of the mean squared error; +3 dB is half the error."),
    (
        "ΔtPSNR",
        "PSNR t frames on with the clip's own codes, minus PSNR with random ones; 0 if codes are ignored.",
    ),
    (
        "Perplexity",
        "How many equally frequent codes would carry as much information; 1 means that one does it all.",
    ),
    ("Probe", "A small reader of the true action from the code; fitted and scored on different episodes."),
    ("R²", "Share of a motion's variance that is explained; 0 for always the mean, 1 for all of it."),
    (
        "NMI and AMI",
        "Information that code and action share, 0 to 1; AMI takes off what chance alone would give.",
    ),
    ("low to high", "95 % interval, found by drawing whole episodes again and again."),
)


def write_page(tree: Tree, pictures: Pictures | None, out: Path) -> Path:
    """Write the page, whole or not at all, and return where it is.

    Args:
        tree: of the inspection. `about` may have a title; `command` and hashes in it are shown as such.
        pictures: of `paint`; None for a page without.
        out: the HTML file.
    """
    write_bytes(out, render(tree, pictures).encode())
    return out


def render(tree: Tree, pictures: Pictures | None) -> str:
    """The page."""
    folders = [Path(__file__).parent, Path(report.__file__).parent]  # the look is that of a run's report
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    environment.filters |= {"count": report.count, "num": report.num, "percent": percent, "short": short}
    about, agreement, points = tree["about"], tree.get("code_action"), tree.get("projection")
    return environment.get_template("inspect.html.jinja").render(
        tree=tree,
        title=about.get("title", ""),
        verdict=_verdict(tree["verdict"]),
        left_out=about.get("left_out", []),
        groups=_groups(tree["checks"]),
        outcomes=OUTCOMES,
        gallery=_gallery(pictures, agreement) if pictures and pictures.files else None,
        matrix=code_table(agreement) if agreement else None,
        projection=(points | scatter(points)) if points and points["points"] else None,
        projected_by=PROJECTIONS,
        about=_flat({key: value for key, value in about.items() if key not in APART}),
        options=_flat(about.get("options", {})),
        glossary=GLOSSARY,
    )


def _verdict(verdict: Tree) -> dict[str, Any]:
    """The verdict without what would be said twice: the answer again, and reasons that the sentence gives."""
    answer, sentence = verdict["answer"], verdict["sentence"]
    if sentence.lower().startswith(answer.lower()):
        sentence = sentence[len(answer) :].lstrip(" .,:;")
        sentence = sentence[:1].upper() + sentence[1:]
    why = [reason for reason in verdict["why"] if reason not in sentence]
    return {"answer": answer[:1].upper() + answer[1:], "sentence": sentence, "why": why}


def _groups(checks: Sequence[Tree]) -> list[dict[str, Any]]:
    """Checks under the headings of their groups; groups that this file does not know come last."""
    found = dict.fromkeys(check["group"] for check in checks)
    order = [name for name in GROUPS if name in found] + [name for name in found if name not in GROUPS]
    numbered = [
        {**check, "id": f"check-{place}", "drawn": rows_of(check)} for place, check in enumerate(checks)
    ]
    groups = []
    for name in order:
        title, asks = GROUPS.get(name, (name, ""))
        members = [check for check in numbered if check["group"] == name]
        groups.append({"name": name, "title": title, "asks": asks, "checks": members})
    return groups


def _gallery(pictures: Pictures, agreement: Tree | None) -> dict[str, Any]:
    """The pictures with their contents, and what the shared style sheet wants to know of them."""
    listing = pictures.listing

    def uri(name: str) -> str:
        return data_uri(pictures.files[name], Path(name).suffix)

    height, width = listing["frame_hw"]
    transfers = [
        {
            "a": each["a"],
            "b": each["b"],
            "codes": each["codes"],
            "films": [
                {"key": key, "uri": uri(each["films"][key]), "frames": each["frames"], "name": name}
                for key, name in TRANSFER.items()
            ],
        }
        for each in listing["transfers"]
    ]
    cell_px = max(64, min(128, GRID_PX // (len(listing["codes"]) + 1) - 8))
    return {
        "columns": [
            {"code": code, "share": share, "actions": actions_of(agreement, code) if agreement else []}
            for code, share in zip(listing["codes"], listing["share"], strict=True)
        ],
        "starts": [
            {
                "source": start["source"],
                "frame_index": start["frame_index"],
                "still": uri(start["still"]),
                "cells": [
                    {
                        kind: {"uri": uri(cell[kind]), "frames": listing["frames"]}
                        for kind in ("film", "change")
                    }
                    for cell in start["cells"]
                ],
            }
            for start in listing["starts"]
        ],
        "transfers": transfers,
        "together": uri(listing["together"]),
        "num_codes": listing["num_codes"],
        "is_menu": listing["is_menu"],
        "strongest_change": listing["strongest_change"],
        "is_same": listing["is_same"],
        "frames": listing["frames"],
        "rate_hz": listing["rate_hz"],
        "shown_hz": min(listing["rate_hz"], SHOWN_HZ),
        "lengths": sorted({listing["frames"], *(each["frames"] for each in listing["transfers"])}),
        "aspect": f"{width} / {height}",
        "height": height,
        "width": width,
        # Where films stand still, on paper or on wish, they show a frame that is not all blur.
        "still": 100 * min(STILL, listing["frames"] - 1) / max(listing["frames"] - 1, 1),
        "cell_px": cell_px,
        "small_px": 128,
        "large_px": 192,
        "is_pixelated": width <= 96,
    }


def _flat(about: Tree, before: str = "") -> list[tuple[str, Any]]:
    """(name, value) of everything in nested objects, in their order: {"lam": {"sha256": …}} is "lam sha256"."""
    items = []
    for key, value in about.items():
        name = f"{before} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            items += _flat(value, name)
        elif isinstance(value, list | tuple):
            items.append((name, ", ".join(map(str, value))))
        elif value is not None:
            items.append((name, value))
    return items
