"""What differs between seeds: measurements of several finished runs of one recipe, side by side.

    python benchmarks/seeds.py RUN RUN RUN [...]

Each RUN is a folder with a report.json, of the same recipe with another `seed`. Prints a Markdown table: the mean
over the runs with its 95 % interval (Student's t over seeds, wide for few of them), then every run. The reports'
own intervals are over episodes of one run; these are over training runs.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# 97.5 % quantile of Student's t by number of runs: n runs leave n - 1 degrees of freedom.
T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}

# Shown name, path in report.json, factor.
MEASURES = (
    ("codes in use", "lam.codes_used", 1),
    ("code perplexity", "lam.perplexity", 1),
    ("tokenizer PSNR, dB", "tokenizer.psnr_db", 1),
    ("rollout PSNR at t = 4, dB", "rollout.psnr_db.4", 1),
    ("copy of the last frame at t = 4, dB", "rollout.copy_last_psnr_db.4", 1),
    ("rollout over copy at t = 4, dB", "rollout.gain_db.4.mean", 1),
    ("ΔtPSNR at t = 4, dB", "control.delta_psnr_db.mean", 1),
    ("true action from the code, %", "probe.code.mean", 100),
    ("… majority, %", "probe.majority.mean", 100),
    ("… untrained network, %", "probe.random_lam.mean", 100),
    ("… trained with all labels, %", "probe.supervised.mean", 100),
    ("policy: latent actions, %", "policy.latent.mean", 100),
    ("policy: random, %", "policy.random.mean", 100),
    ("policy: blind, %", "policy.blind.mean", 100),
    ("policy: cloning the labels, %", "policy.bc.mean", 100),
    ("policy: inverse-model labelling, %", "policy.idm.mean", 100),
    ("policy: oracle, %", "policy.oracle.mean", 100),
    ("latent actions over random, points", "policy_gain.latent_over_random.mean", 100),
    ("latent actions over cloning, points", "policy_gain.latent_over_bc.mean", 100),
    ("latent actions over inverse-model labelling, points", "policy_gain.latent_over_idm.mean", 100),
)


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    reports = [json.loads((run / "report.json").read_text()) for run in parser.parse_args().runs]
    if len({report["made_from"]["seed"] for report in reports}) < len(reports):
        parser.error("two runs have the same seed; they are one measurement, not two")
    if not 2 <= len(reports) <= max(T_975):
        parser.error(f"expected 2 to {max(T_975)} runs, found {len(reports)}")
    print("\n".join(table(reports)))


def table(reports: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of Markdown; a measure that one of the reports lacks is left out."""
    seeds = [f"seed {report['made_from']['seed']}" for report in reports]
    lines = [f"| | mean | {' | '.join(seeds)} |", "|---|---|" + "---|" * len(seeds)]
    for name, path, factor in MEASURES:
        values = [value(report, path) for report in reports]
        found = [factor * each for each in values if each is not None]
        if len(found) == len(reports):
            mean, low, high = interval(found, within=(0, 100) if name.endswith("%") else None)
            each = " | ".join(f"{number:.1f}" for number in found)
            lines.append(f"| {name} | {mean:.1f} [{low:.1f}, {high:.1f}] | {each} |")
    return lines


def value(report: dict[str, Any], path: str) -> float | None:
    """The number at a dotted path, None where the report has none."""
    node: Any = report
    for key in path.split("."):
        if not isinstance(node, dict) or key not in node:
            return None
        node = node[key]
    return node


def interval(
    values: Sequence[float], within: tuple[float, float] | None = None
) -> tuple[float, float, float]:
    """Mean over runs with the ends of its 95 % interval, cut off at the bounds of what is possible."""
    mean, num = statistics.fmean(values), len(values)
    half = T_975[num] * statistics.stdev(values) / num**0.5
    lowest, highest = within or (float("-inf"), float("inf"))
    return mean, max(mean - half, lowest), min(mean + half, highest)


if __name__ == "__main__":
    main()
