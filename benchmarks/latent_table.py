"""The table of `latent_actions.py`: what every cell reached, as means over seeds with 95 % intervals.

Intervals are Student's t over seeds, wide for few of them; with one seed there is none. Differences are taken seed by
seed before they are averaged.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from seeds import T_975, interval, value

Result = Mapping[str, Any]
Key = tuple[str, str, int, str]  # bottleneck, input, labels, video
CLEAN = "clean"
NOTHING = "–"
HEAD_LINES = 2  # of a table
SHARE = (0.0, 100.0)

# Title, path in a result, factor, digits behind the point.
COLUMNS: tuple[tuple[str, tuple[str, ...], int, int], ...] = (
    ("embedding, %", ("probe.probe.embedding.mean",), 100, 1),
    ("code, %", ("probe.probe.code.mean",), 100, 1),
    ("untrained, %", ("probe.probe.random_lam_embedding.mean",), 100, 1),
    ("guess, %", ("probe.probe.majority.mean", "probe.probe.mean.mean"), 100, 1),
    ("all labels, %", ("probe.probe.supervised.mean",), 100, 1),
    ("way, embedding, %", ("probe.share.embedding",), 100, 0),
    ("way, code, %", ("probe.share.code",), 100, 0),
    ("codes used", ("lam.codes_used",), 1, 0),
    ("code tells, dB", ("lam.code_gain_db",), 1, 2),
    ("ΔtPSNR, dB", ("control.delta_psnr_db.mean",), 1, 2),
    ("policy, %", ("policy.policy.latent.mean",), 100, 0),
)


def report(results: Sequence[Result]) -> str:
    """The whole report in Markdown."""
    groups = grouped(results)
    lines = ["# Bottlenecks, inputs and labels", "", *_explained(groups), "", *table(groups)]
    if len(gaps := gap_table(groups)) > HEAD_LINES:
        about_gaps = "Points of the embedding's probe below the clean video, seed by seed."
        lines += ["", "## What distractors cost", "", about_gaps, "", *gaps]
    if rivals := rival_table(groups):
        about_rivals = "Of the same labels, % of unseen levels solved."
        lines += ["", "## Policies", "", about_rivals, "", *rivals]
    return "\n".join(lines) + "\n"


def grouped(results: Sequence[Result]) -> dict[Key, dict[int, Result]]:
    """Results by cell and seed, in the order in which cells come first."""
    groups: dict[Key, dict[int, Result]] = defaultdict(dict)
    for result in results:
        cell = result["cell"]
        groups[cell["bottleneck"], cell["input"], cell["labels"], cell["video"]][result["seed"]] = result
    return dict(sorted(groups.items(), key=lambda group: (group[0][3] != CLEAN, group[0][3])))


def table(groups: Mapping[Key, Mapping[int, Result]]) -> list[str]:
    """One row per cell; a column that no cell has is left out."""
    shown = [column for column in COLUMNS if any(_found(by_seed, column[1]) for by_seed in groups.values())]
    lines = _head(["video", "bottleneck", "input", "labels", "seeds", *(title for title, *_ in shown)])
    for (bottleneck, source, labels, video), by_seed in groups.items():
        cells = [
            told([factor * each for each in _found(by_seed, paths)], digits, _bounds(title, by_seed))
            for title, paths, factor, digits in shown
        ]
        lines.append(_row([video, bottleneck, source, str(labels), str(len(by_seed)), *cells]))
    return lines


def gap_table(groups: Mapping[Key, Mapping[int, Result]]) -> list[str]:
    """Of every cell on distracted video whose like on clean video is done: how far its probe lies below."""
    probe = COLUMNS[0][1]
    lines = _head(
        ["video", "bottleneck", "input", "labels", "below the same", "below the same without labels"]
    )
    for key, by_seed in groups.items():
        bottleneck, source, labels, video = key
        if video == CLEAN:
            continue
        rivals = [groups.get((bottleneck, source, count, CLEAN), {}) for count in (labels, 0)]
        gaps = [
            [
                100 * (_value(rival[seed], probe) - _value(by_seed[seed], probe))
                for seed in sorted(by_seed.keys() & rival.keys())
            ]
            for rival in rivals
        ]
        if any(gaps):
            lines.append(_row([video, bottleneck, source, str(labels), *(told(each, 1) for each in gaps)]))
    return lines


def rival_table(groups: Mapping[Key, Mapping[int, Result]]) -> list[str]:
    """Success of every arm that played, for the cells whose policies played."""
    played = {
        key: {seed: result["policy"]["policy"] for seed, result in by_seed.items() if "policy" in result}
        for key, by_seed in groups.items()
    }
    arms = list(dict.fromkeys(arm for runs in played.values() for run in runs.values() for arm in run))
    if not arms:
        return []
    lines = _head(["video", "bottleneck", "input", "labels", *arms])
    for (bottleneck, source, labels, video), runs in played.items():
        if runs:
            cells = [
                told([100 * run[arm]["mean"] for run in runs.values() if arm in run], 0, SHARE)
                for arm in arms
            ]
            lines.append(_row([video, bottleneck, source, str(labels), *cells]))
    return lines


def told(values: Sequence[float], digits: int, within: tuple[float, float] | None = None) -> str:
    """`61.2 [58.0, 64.4]`; without an interval where there is one value, a dash where there is none."""
    if not values:
        return NOTHING
    if not 2 <= len(values) <= max(T_975):
        return f"{sum(values) / len(values):.{digits}f}"
    mean, low, high = interval(values, within)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _bounds(title: str, by_seed: Mapping[int, Result]) -> tuple[float, float] | None:
    """What is possible: a way may lead past its end and an R² below 0, a share may not."""
    is_r2 = any(value(dict(each), "probe.probe_about.kind") == "r2" for each in by_seed.values())
    return SHARE if title.endswith("%") and not title.startswith("way") and not is_r2 else None


def _explained(groups: Mapping[Key, Mapping[int, Result]]) -> list[str]:
    results = [result for by_seed in groups.values() for result in by_seed.values()]
    commits = ", ".join(sorted({f"`{each['commit']}`" for each in results}))
    machines = "; ".join(sorted({each["machine"] for each in results}))
    return [
        f"Measured at {commits} on {machines}. All of it on held-out levels. Embedding and "
        "code: true actions read off the vector before the bottleneck and off the code, by small readers; untrained: "
        "off the vector of the same network with random weights; guess: the commonest action; all labels: an inverse "
        "model of the same network, trained on every label there is; way: from the guess to all labels. Of robots, R² "
        "in place of a share of hits, and the mean in place of the commonest. Code tells: what the right code adds to "
        "the next frame over the code of another transition. Policy: relabelled and cloned from the few labels of "
        "`adapt`, played in the game as the video shows it. Mean over seeds with its 95 % interval (Student's t).",
    ]


def _found(by_seed: Mapping[int, Result], paths: Sequence[str]) -> list[float]:
    found = [_value_or_none(by_seed[seed], paths) for seed in sorted(by_seed)]
    return [each for each in found if each is not None]


def _value(result: Result, paths: Sequence[str]) -> float:
    found = _value_or_none(result, paths)
    assert found is not None, paths
    return found


def _value_or_none(result: Result, paths: Sequence[str]) -> float | None:
    return next((found for path in paths if (found := value(dict(result), path)) is not None), None)


def _head(titles: Sequence[str]) -> list[str]:
    return [_row(titles), "|---" * len(titles) + "|"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
