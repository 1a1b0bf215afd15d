"""From a report's tree and pictures to one HTML page that needs nothing else: no script, no request.

Every section stands only if its figures are there: a run without a game has no table of policies, a robot has
R² by joint group where a game has accuracy.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from genie_lite.evals.charts import Line, Point, line_chart
from genie_lite.evals.code_table import actions_of, code_table, share_of
from genie_lite.evals.pictures import data_uri
from genie_lite.evals.verdict import MINUS, judge, percent, signed

Tree = Mapping[str, Any]
# stage -> split -> metric -> points (step, value)
Curves = Mapping[str, Mapping[str, Mapping[str, Sequence[Point]]]]

SHOWN_HZ = 6.0  # films play no faster than this, or the eye cannot compare them
OURS, PLAIN, CEILING, RIVAL = range(4)  # colours of lines, see the style sheet
COLOURS = {
    OURS: "ours",
    RIVAL: "rival, the same few labels",
    CEILING: "ceiling, all labels",
    PLAIN: "baseline",
}

PIPELINE = (
    "record",
    "ingest",
    "tokenizer",
    "lam",
    "tokens",
    "dynamics",
    "extract",
    "adapt",
    "evaluate",
    "report",
)
PROBE_ARMS = {
    "code": ("The code", OURS),
    "embedding": ("The embedding before it", OURS),
    "majority": ("Always the commonest action", PLAIN),
    "mean": ("Always the mean", PLAIN),
    "hold_last": ("The true action before", PLAIN),
    "random_lam": ("Untrained network, code", PLAIN),
    "random_lam_embedding": ("Untrained network, embedding", PLAIN),
    "adapted": ("Decoded by adapt, few labels", OURS),
    "adapted_change": ("Decoded as a change of the action before", OURS),
    "supervised_few": ("Inverse model, the same few labels", RIVAL),
    "supervised_few_change": ("… as a change, the same few labels", RIVAL),
    "supervised": ("Inverse model, all labels", CEILING),
    "supervised_change": ("… as a change, all labels", CEILING),
}
POLICY_ARMS = {
    "latent": ("From latent actions", OURS),
    "random": ("Random play", PLAIN),
    "blind": ("Always the same move, blind", PLAIN),
    "bc": ("Cloned from the same labels", RIVAL),
    "idm": ("Inverse model on the same labels", RIVAL),
    "oracle": ("Cloned from all labels", CEILING),
}
STRIPS = {"recorded": "Recorded", "tokenizer": "Tokenizer", "lam": "Latent action model, one frame ahead"}
EXAMPLES = {
    "recorded": "What followed",
    "inferred": "World, the clip's codes",
    "random": "World, random codes",
}
# title, x-axis lines as (split, metric, legend, colour); a chart without data is left out
CHARTS = (
    ("Loss", (("train", "loss", "training", OURS),)),
    (
        "Cross-entropy, nats per token",
        (("train", "cross_entropy", "training", PLAIN), ("val", "cross_entropy", "held out", OURS)),
    ),
    (
        "PSNR, dB",
        (("val", "psnr_db", "held out", OURS), ("val", "copy_psnr_db", "copying the last frame", PLAIN)),
    ),
    ("Cost of wrong codes, dB", (("val", "control_db", "held out", OURS),)),
    ("Cost of wrong codes, nats per token", (("val", "control_nats", "held out", OURS),)),
    ("Codes", (("val", "codes_used", "occurring", PLAIN), ("val", "perplexity", "perplexity", OURS))),
    ("Accuracy of hidden tokens", (("val", "accuracy", "held out", OURS),)),
)
T_LABEL = "t, frames after the given ones"
GLOSSARY = (
    (
        "Latent action, code",
        "One of a few symbols, inferred from two neighbouring frames, that names what changed.",
    ),
    ("Codes in use", "Codes that more than 0.5 % of all transitions carry."),
    (
        "Perplexity",
        "How many equally frequent codes would carry as much information; 1 means that one does it all.",
    ),
    (
        "PSNR",
        "Closeness of pictures in dB, of the mean squared error over all frames; +3 dB is half the error.",
    ),
    ("SSIM", "Structural similarity of pictures; 1 means equal."),
    ("Copying the last frame", "A world in which nothing ever happens: what every rollout has to beat."),
    (
        "Tokenizer's ceiling",
        "The true frame through the tokenizer and back: the best that any rollout can reach.",
    ),
    ("t", "Number of frames after the given ones; every frame is sampled from sampled frames."),
    (
        "ΔtPSNR",
        "PSNR of a rollout with the clip's own codes minus PSNR with codes drawn at random by their "
        "frequency; 0 when codes are ignored.",
    ),
    ("Probe", "A small reader of the true action from the code; fitted and scored on different episodes."),
    (
        "Balanced accuracy",
        "Accuracy averaged over the actions, so that a frequent one weighs no more than a rare one.",
    ),
    ("R²", "Share of a motion's variance that is explained; 0 for always the mean, 1 for all of it."),
    (
        "NMI and AMI",
        "Information that code and action share, 0 to 1; AMI takes off what chance alone would give.",
    ),
    (
        "[low, high], or low to high",
        "95 % interval, found by drawing whole episodes, or levels, again and again.",
    ),
)


def render(tree: Tree, gallery: Tree | None, pictures: Mapping[str, bytes], curves: Curves) -> str:
    """The page.

    Args:
        tree: what report.json holds.
        gallery: the list that `gallery.read_gallery` gives, None without pictures.
        pictures: file name to content of everything that `gallery` names.
        curves: numbers of training, by stage, split and metric.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "signed": signed,
        "duration": duration,
        "count": count,
        "num": num,
    }
    return environment.get_template("report.html.jinja").render(
        tree=tree,
        title=_title(tree),
        verdict=judge(tree),
        gallery=None if gallery is None else _pictures(tree, gallery, pictures),
        matrix=code_table(tree["code_action"]) if tree.get("code_action") else None,
        rollout=_rollout(tree),
        control=_control(tree),
        drive=_drive(tree),
        probes=_probes(tree),
        policies=_policies(tree),
        training=_training(curves),
        seconds=_in_time(tree["seconds"]),
        glossary=GLOSSARY,
    )


def _title(tree: Tree) -> str:
    """What the run says of itself beside its name, which is the page's heading."""
    title = tree.get("about", {}).get("title", "")
    return "" if title == tree["name"] else title


def num(value: float | int, digits: int = 2, *, plus: bool = False) -> str:
    """A number with a proper minus sign, and a plus sign if asked; never a negative zero."""
    value = round(value, digits) + 0.0
    return (f"{value:+.{digits}f}" if plus else f"{value:.{digits}f}").replace("-", MINUS)


def duration(seconds: float | int) -> str:
    """42 s, 3 min 20 s, 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s"


def count(value: Any) -> str:
    """Whole numbers with thin spaces between thousands; anything else as text."""
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{value:,}".replace(",", "\u202f")


def _pictures(tree: Tree, gallery: Tree, pictures: Mapping[str, bytes]) -> dict[str, Any]:
    def uri(name: str) -> str:
        return data_uri(pictures[name], Path(name).suffix)

    def film(entry: Tree, **more: Any) -> dict[str, Any]:
        return {"uri": uri(entry["file"]), "frames": entry["frames"]} | more

    height, width = gallery["frame_hw"]
    films = [
        film(each, code=int(code), **_caption(tree, int(code))) for code, each in gallery["films"].items()
    ]
    examples = [
        [film(example[name], name=label) for name, label in EXAMPLES.items()]
        for example in gallery["examples"]
    ]
    lengths = {each["frames"] for row in [films, *examples] for each in row}
    shown_hz = min(gallery["rate_hz"], SHOWN_HZ)
    return {
        "films": films,
        "examples": examples,
        "strips": [
            {
                "uri": uri(gallery["strip"][name]["file"]),
                "name": label,
                "frames": gallery["strip"][name]["frames"],
            }
            for name, label in STRIPS.items()
        ],
        "together": uri(gallery["together"]),
        "foretold_by": gallery["foretold_by"],
        "lengths": sorted(lengths),
        "shown_hz": shown_hz,
        "rate_hz": gallery["rate_hz"],
        "aspect": f"{width} / {height}",
        # Whole multiples of a pixel, so that small frames stay crisp.
        "small_px": width * max(1, 128 // width) if width <= 160 else 160,
        "large_px": width * max(1, 192 // width) if width <= 200 else 200,
        "is_pixelated": width <= 160,
    }


def _caption(tree: Tree, code: int) -> dict[str, Any]:
    """How frequent a code is, by the page's own table if there is one, and what it stands for."""
    table, lam = tree.get("code_action"), tree.get("lam", {})
    if table:
        return {"share": share_of(table, code), "actions": actions_of(table, code)}
    share = lam.get("share", [])
    # Reports of earlier versions list every code.
    return {
        "share": dict(zip(lam.get("codes", range(len(share))), share, strict=True)).get(code),
        "actions": [],
    }


def _rollout(tree: Tree) -> dict[str, Any] | None:
    rollout = tree.get("rollout")
    if not rollout:
        return None
    horizons = list(rollout["psnr_db"])
    arms = (
        ("Tokenizer's ceiling", "ceiling_psnr_db", "ceiling_ssim", CEILING),
        ("World, sampled", "psnr_db", "ssim", OURS),
        ("Copying the last frame", "copy_last_psnr_db", "copy_last_ssim", PLAIN),
    )
    lines = [
        _line_by_t(label, {t: rollout["interval"][name][t] for t in horizons}, style)
        for label, name, _, style in arms
    ]
    return {
        "horizons": horizons,
        "arms": [
            {
                "name": label,
                "style": style,
                "psnr": [rollout[psnr][t] for t in horizons],
                "ssim": [rollout[ssim][t] for t in horizons],
            }
            for label, psnr, ssim, style in arms
        ],
        "gain": [rollout["gain_db"][t] for t in horizons],
        "chart": line_chart(lines, T_LABEL, "PSNR in dB by t", [int(t) for t in horizons]),
        "lines": lines,
    }


def _control(tree: Tree) -> dict[str, Any] | None:
    control = tree.get("control")
    if not control:
        return None
    line = _line_by_t("ΔtPSNR", control["by_t"], OURS)
    times = [t for t, _ in line.points]
    zero = Line("no control", [(times[0], 0.0), (times[-1], 0.0)], PLAIN)
    return {"chart": line_chart([zero, line], T_LABEL, "ΔtPSNR in dB by t", times)}


def _line_by_t(name: str, by_t: Tree, style: int) -> Line:
    """The means of intervals by t, in front of the intervals that there are."""
    band = [(int(t), each["low"], each["high"]) for t, each in by_t.items() if each["low"] is not None]
    return Line(name, [(int(t), each["mean"]) for t, each in by_t.items()], style, band, marked=True)


def _drive(tree: Tree) -> dict[str, Any] | None:
    """Rollouts of true actions, of drawn ones, and of inferred codes where the world has any."""
    drive = tree.get("drive")
    if not drive:
        return None
    arms = (
        ("Codes of what happened", drive["inferred_psnr_db"], CEILING),
        ("True actions", drive["psnr_db"], OURS),
        ("Actions of other moments", drive["drawn_psnr_db"], PLAIN),
    )
    rows = [(name, by_t, style) for name, by_t, style in arms if by_t]
    lines = [_line_by_t(name, by_t, style) for name, by_t, style in rows]
    horizons = list(drive["psnr_db"])
    return {
        "horizons": horizons,
        "arms": [{"name": name, "style": style, "cells": by_t.values()} for name, by_t, style in rows],
        "gain": drive["control_db"].values(),
        "chart": line_chart(lines, T_LABEL, "PSNR in dB by t, by what leads", [int(t) for t in horizons]),
        "lines": lines,
        "episodes": drive["psnr_db"][horizons[0]]["num"],
        "map": drive.get("map"),
    }


def _probes(tree: Tree) -> dict[str, Any] | None:
    if not tree.get("probe"):
        return None
    is_accuracy = tree["probe_about"]["kind"] == "accuracy"
    tables = [
        _arms(
            "Accuracy" if is_accuracy else "R², all components",
            tree["probe"],
            PROBE_ARMS,
            in_percent=is_accuracy,
        )
    ]
    if tree.get("probe_balanced"):
        tables.append(_arms("Balanced accuracy", tree["probe_balanced"], PROBE_ARMS, in_percent=True))
    return {
        "tables": tables,
        "legend": _legend(tables),
        "groups": [
            table
            for table in (
                _groups("R² by group", tree.get("probe_groups")),
                _groups(
                    "Share of the change since the action before that is explained", tree.get("probe_change")
                ),
            )
            if table
        ],
        "gains": _gains(tree.get("probe_gain"), PROBE_ARMS, in_percent=is_accuracy),
    }


def _groups(title: str, by_arm: Tree | None) -> dict[str, Any] | None:
    if not by_arm:
        return None
    names = list(next(iter(by_arm.values())))
    arms = _in_order(by_arm, PROBE_ARMS)
    return {
        "title": title,
        "names": names,
        "rows": [
            {"name": label, "style": style, "cells": [by_arm[arm][name] for name in names]}
            for arm, label, style in arms
        ],
    }


def _policies(tree: Tree) -> dict[str, Any] | None:
    tables = []
    if tree.get("policy"):
        episodes = min(arm["episodes"] for arm in tree["policy"].values())
        tables.append(
            _arms(f"Solved, of {count(episodes)} unseen levels", tree["policy"], POLICY_ARMS, in_percent=True)
        )
    if tree.get("policy_hard"):
        episodes = min(arm["episodes"] for arm in tree["policy_hard"].values())
        title = f"Solved, of the {count(episodes)} levels where the blind player fails"
        tables.append(_arms(title, tree["policy_hard"], POLICY_ARMS, in_percent=True))
    gains = _gains(tree.get("policy_gain"), POLICY_ARMS, in_percent=True)
    demonstrations = tree.get("policy_about", {}).get("demonstrations", "*")
    if not tables:
        return None
    return {
        "tables": tables,
        "legend": _legend(tables),
        "gains": gains,
        "demonstrations": None if demonstrations == "*" else demonstrations,
    }


def _legend(tables: Sequence[Tree]) -> list[dict[str, Any]]:
    """What the colours in some tables of arms mean."""
    styles = {row["style"] for table in tables for row in table["rows"]}
    return [{"style": style, "name": name} for style, name in COLOURS.items() if style in styles]


def _gains(
    gains: Tree | None, known: Mapping[str, tuple[str, int]], *, in_percent: bool
) -> list[dict[str, str]]:
    """Paired differences "a_over_b" as rows of text."""
    scale, digits = (100, 1) if in_percent else (1, 2)
    rows = []
    for name, each in (gains or {}).items():
        arm, _, base = name.partition("_over_")
        label, other = (known[part][0] if part in known else part.replace("_", " ") for part in (arm, base))
        bounds = [each[key] for key in ("low", "high") if each[key] is not None]
        rows.append(
            {
                "arm": label,
                "base": other[:1].lower() + other[1:],
                "mean": num(scale * each["mean"], digits, plus=True),
                "interval": " to ".join(num(scale * bound, digits, plus=True) for bound in bounds),
            }
        )
    return rows


def _in_time(seconds: Tree) -> list[tuple[str, float]]:
    """Stages in the order in which a run goes through them; unknown ones last."""
    rank = {stage: place for place, stage in enumerate(PIPELINE)}
    return sorted(seconds.items(), key=lambda item: rank.get(item[0], len(rank)))


def _in_order(arms: Tree, known: Mapping[str, tuple[str, int]]) -> list[tuple[str, str, int]]:
    """(arm, label, colour): known arms in their order, then others under their own names."""
    listed = [(arm, *known[arm]) for arm in known if arm in arms]
    return listed + [(arm, arm.replace("_", " "), PLAIN) for arm in arms if arm not in known]


def _arms(
    title: str, arms: Tree, known: Mapping[str, tuple[str, int]], *, in_percent: bool
) -> dict[str, Any]:
    """Rows with a mean, an interval, and where both lie on an axis from 0 % to 100 % of a track's width."""
    values = [arm[key] for arm in arms.values() for key in ("mean", "low", "high") if arm[key] is not None]
    # R² of a bad reader can be hugely negative: such rows end at the axis' left edge, their figures do not.
    low = 0.0 if in_percent else max(-1.0, math.floor(10 * min(0.0, *values)) / 10)
    high = min(1.0, (int(10 * max(*values, 0.1)) + 1) / 10)

    def shown(value: float) -> str:
        return num(100 * value, 1) if in_percent else num(value)

    def place(value: float) -> float:
        return 100 * min(max((value - low) / (high - low), 0.0), 1.0)

    rows = []
    for arm, label, style in _in_order(arms, known):
        mean, left, right = (arms[arm][key] for key in ("mean", "low", "high"))
        rows.append(
            {
                "name": label,
                "style": style,
                "dot": place(mean),
                "whisker": None if left is None else (place(left), place(right) - place(left)),
                "mean": shown(mean) + (" %" if in_percent else ""),
                "interval": "" if left is None else f"{shown(left)} to {shown(right)}",
            }
        )
    return {
        "title": title,
        "rows": rows,
        "zero": place(0.0) if low < 0 else None,
        "ends": (percent(low), percent(high)) if in_percent else (num(low, 1), num(high, 1)),
    }


def _training(curves: Curves) -> list[dict[str, Any]]:
    stages = []
    for stage, splits in curves.items():
        charts = []
        for title, wanted in CHARTS:
            if title == "Loss" and "cross_entropy" in splits.get("train", {}):
                continue  # the loss is that cross-entropy
            lines = [
                Line(label, splits[split][metric], style)
                for split, metric, label, style in wanted
                if len(splits.get(split, {}).get(metric, ())) > 1
            ]
            if lines:
                charts.append(
                    {
                        "title": title,
                        "svg": line_chart(lines, "optimizer step", f"{stage}: {title}"),
                        "lines": lines,
                    }
                )
        if charts:
            stages.append({"stage": stage, "charts": charts})
    return stages
