"""Trees of inspections as they come out: discrete with labels, continuous without, and one in which all fails."""

from typing import Any

import numpy as np

from genie_lite.inspect.projection import scatter

Tree = dict[str, Any]
ACTIONS = ("noop", "left", "right", "up", "down")


def interval(mean: float, half: float = 0.03, num: int = 96) -> Tree:
    return {"mean": mean, "low": mean - half, "high": mean + half, "num": num}


def check(name: str, group: str, value: Any, unit: str, **more: Any) -> Tree:
    words = {
        "title": name.replace("_", " ").capitalize(),
        "baselines": {},
        "threshold": "",
        "outcome": "holds",
        "meaning": "What this says, in a sentence that stands for itself.",
        "remedy": "",
    }
    return {"name": name, "group": group, "value": value, "unit": unit} | words | more


def about(**more: Any) -> Tree:
    return {
        "title": "maze-demo",
        "command": "genie-lite inspect runs/maze-demo runs/maze-demo/shards --labels labels.parquet",
        "lam": "c" * 64,
        "code": {"kind": "vq", "num_codes": 8, "dim": 32},
        "frame_hw": [64, 64],
        "shards": "d" * 64,
        "rate_hz": 10.0,
        "transitions": 12345,
        "options": {"clips": 512, "seed": 0, "thresholds": {"scene_cut": 2.0}},
        "left_out": [],
    } | more


def discrete() -> Tree:
    """Eight codes of a maze, with labels; nearly all holds."""
    checks = [
        check(
            "codes_used", "use", 8.0, "codes", title="Codes in use", baselines={"alphabet": 8.0},
            threshold="at least 5", meaning="Every code occurs: 8 of 8 carry more than 0.5 % of the transitions.",
        ),
        check(
            "perplexity", "use", interval(6.8, 0.2), "codes", title="How evenly they are used",
            baselines={"alphabet": 8.0}, threshold="at least 2",
            meaning="The codes carry as much information as 6.8 equally frequent ones.",
        ),
        check(
            "top_code", "use", interval(0.21), "share", title="Share of the commonest code", baselines={"even": 0.125},
            threshold="at most 0.75", meaning="No code drowns the others.",
        ),
        check("still", "use", interval(0.04, 0.01), "share", title="Pairs in which nothing moves", outcome="told",
              meaning="Still pairs teach nothing and are counted all the same."),
        check(
            "copy_gap", "control", interval(10.86, 0.34), "dB", title="Prediction over a copy of the last frame",
            threshold="above 0", meaning="With its code the model foretells the next frame; a copy does not.",
            baselines={"random_lam": interval(-3.1, 0.2), "shuffled": interval(0.9, 0.3)},
        ),
        check(
            "control", "control", interval(1.6, 0.37), "dB", title="What random codes cost after 4 frames (ΔtPSNR)",
            threshold="at least 1.9", outcome="unclear", baselines={"sampling_noise": interval(-0.12, 0.15)},
            meaning="Frames sampled with the clip's codes are closer to the truth than with random ones.",
            remedy="Train the dynamics model longer; inject the code at every block (inject: adaln).",
        ),
        check(
            "scene_cut", "leak", interval(3.4, 0.4), "ratio", title="Error across a scene cut", threshold="at least 2",
            baselines={"random_lam": interval(1.02, 0.02)},
            meaning="Spliced ends cannot be foretold, so the code does not smuggle the next frame through.",
        ),
        check(
            "future_similarity", "leak", interval(0.86, 0.05), "cosine", title="Likeness of opposite motions (S-PCFC)",
            threshold="at most 0.8", outcome="fails",
            meaning="Transitions that end in the same frame get nearly the same embedding.",
            remedy="Narrow the bottleneck, or augment the frames of the decoder otherwise than those of the encoder.",
        ),
        check(
            "cycle", "structure", interval(0.93, 0.04), "share", title="There and back again", threshold="at least 0.5",
            meaning="After a code and its opposite the picture is what it was.",
        ),
        check(
            "probe", "actions", interval(0.853, 0.012), "score", title="True action from the code",
            threshold="above the baselines",
            baselines={
                "majority": interval(0.31), "frame": interval(0.42), "random_lam": interval(0.51),
                "supervised": interval(0.951, 0.01),
            },
            meaning="From the code alone the true action is read in 85 % of unseen transitions.",
        ),
        check(
            "information", "actions", 1.32, "bits", title="Information shared with the action",
            baselines={"shuffled": interval(0.01, 0.01)}, outcome="told",
            meaning="Of 2.2 bits that an action has, a code tells 1.3.",
        ),
    ]  # fmt: skip
    generator = np.random.default_rng(0)
    action = generator.integers(0, 5, 600)
    embedding = generator.normal(size=(600, 8)) + 3 * np.eye(8)[action]
    counts = [[0, 0, 4, 89, 0], [0, 1, 0, 99, 0], [0, 0, 0, 0, 40], [0, 2, 0, 1, 70], [3, 0, 87, 5, 4],
              [1, 60, 1, 0, 0], [0, 52, 88, 0, 1], [9, 7, 6, 6, 4]]  # fmt: skip
    return {
        "format": 1,
        "about": about(),
        "checks": checks,
        "verdict": {
            "answer": "good for play",
            "sentence": "Good for play, not for policy pre-training: Transitions that end in the same frame get nearly "
            "the same embedding.",
            "why": [
                "Transitions that end in the same frame get nearly the same embedding.",
                "It is not shown that the embedding holds what this network could know about actions.",
            ],
        },
        "code_action": {
            "counts": counts, "action_names": list(ACTIONS), "nmi": 0.61, "ami": 0.6, "purity": 0.85,
        },
        "projection": scatter(embedding, action, list(ACTIONS), 0),
        "pictures": None,
    }  # fmt: skip


def continuous() -> Tree:
    """A variational bottleneck on robot footage, without labels."""
    tree = discrete()
    tree["about"] = about(title="robot-vae", left_out=["What needs labels is left out: there are none."])
    tree["checks"] = [
        check(
            "active_units", "use", 9.0, "dimensions", title="Dimensions that say anything",
            baselines={"dimensions": 32.0}, threshold="at least 2",
            meaning="9 of 32 dimensions vary; they are worth 5.4 independent ones.",
        ),
        *(each for each in tree["checks"] if each["group"] in ("control", "leak")),
        check(
            "additivity", "structure", interval(0.41), "ratio", title="Two steps add up to one of twice the length",
            baselines={"shuffled": interval(1.38)}, threshold="at most 0.8",
            meaning="The vector of a → c is nearly that of a → b plus that of b → c.",
        ),
    ]  # fmt: skip
    generator = np.random.default_rng(1)
    embedding = generator.normal(size=(500, 32)) * np.linspace(3, 0.1, 32)
    tree["code_action"] = None
    tree["projection"] = scatter(embedding, (embedding[:, 0] > 0).astype(int), ["code 3", "code 0"], 0)
    return tree


def failed() -> Tree:
    """The codes have collapsed; nothing holds."""
    tree = discrete()
    for each in tree["checks"]:
        each["outcome"] = "fails"
        each["remedy"] = each["remedy"] or "Use the FSQ bottleneck; it cannot collapse."
    tree["checks"][0]["value"] = 1.0
    tree["checks"][4]["value"] = interval(-0.8, 0.1)
    tree["checks"][9]["value"] = interval(0.31)
    tree["verdict"] = {
        "answer": "not yet",
        "sentence": "Not yet. Most of the alphabet is dead: the codes have collapsed.",
        "why": ["Most of the alphabet is dead: the codes have collapsed.", "The decoder ignores the code."],
    }
    tree["code_action"]["counts"] = [[30, 90, 150, 155, 90], *([0] * 5 for _ in range(7))]
    return tree
