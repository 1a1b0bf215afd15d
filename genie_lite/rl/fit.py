"""Learn a reward from the labelled episodes, and say how good it is on episodes that it has not seen.

The episodes are dealt into folds, those that end evenly; for each fold a head is trained on the others and asked about
it. The scores are of these answers, put together: every transition is judged by a head that never saw its episode, and
nothing was chosen by them. The head that is kept is trained on all episodes, in the same way.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from genie_lite.artifact import read_artifact
from genie_lite.data.labels import Labels, outcome_fingerprint
from genie_lite.errors import UserError
from genie_lite.folder import labels_of, recipe_of, shards_of
from genie_lite.models.tokenizer import load_tokenizer
from genie_lite.rl.outcomes import Outcomes, gather
from genie_lite.rl.reward import (
    CARD,
    FOLDER,
    RewardConfig,
    RewardHead,
    load_reward,
    read_reward_card,
    save_reward,
)

Progress = Callable[[str, int, int], None]  # (what is being done, done, total)
ASKED = 256  # transitions at a time
SAME = 1e-6  # rewards that differ by less are one


@dataclass(frozen=True)
class RewardScore:
    """How good a reward head is on episodes that it was not trained on.

    episodes, transitions, ends: how many there were. auroc: chance that it finds an end likelier than another
    transition, 0.5 for guessing. accuracy: share of transitions told rightly; base_rate: that of "never an end".
    recall: share of ends that it tells; precision: share of what it tells that are. reward_mae: mean absolute error of
    the reward; reward_mae_mean: that of always saying the mean.
    """

    episodes: int
    transitions: int
    ends: int
    auroc: float
    accuracy: float
    base_rate: float
    recall: float
    precision: float
    reward_mae: float
    reward_mae_mean: float


def reward_of(run: Path, device: str = "cpu") -> RewardHead:
    """The reward head of a run; trained from its labels on first use, and again when they or the tokenizer changed.

    Args:
        run: of which it is.
        device: where to train.

    Raises:
        UserError: there is none, and the run has no labels to make one of.
    """
    if (run / FOLDER / CARD).is_file() and _is_current(run, read_reward_card(run / FOLDER)["about"]):
        return load_reward(run / FOLDER)
    head, _ = fit_reward(run, device=device)
    return head


def _is_current(run: Path, about: Mapping[str, object]) -> bool:
    """Whether a head was made with the run's tokenizer, and from its labels of now or from some that were given."""
    if about.get("tokenizer") != read_artifact(run / "tokenizer", "tokenizer").sha256:
        return False
    if about.get("labels_given") is True:
        return True
    return about.get("labels") == outcome_fingerprint(labels_of(recipe_of(run)))


def fit_reward(
    run: Path,
    labels: Labels | None = None,
    config: RewardConfig | None = None,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[RewardHead, RewardScore]:
    """Train a reward head for a run and write it to RUN/reward, with its scores.

    Args:
        run: whose shards and tokenizer are used; only training shots are.
        labels: with ends, and rewards where there are any (else an end is worth 1); the run's own if not given.
        config: how, and of how many episodes.
        device: where to train.
        progress: told how far things are.

    Raises:
        UserError: no labels with ends, or fewer than two episodes that end and two in all.
    """
    config = config or RewardConfig()
    recipe = recipe_of(run)
    shards = shards_of(recipe)
    known = labels_of(recipe) if labels is None else labels
    chosen = _budget(known.of({shot.meta["source"] for shot in shards.samples("train")}), config, recipe.seed)
    tokenizer = load_tokenizer(run / "tokenizer").to(device)
    outcomes = gather(shards, chosen, tokenizer)
    course = _Course(outcomes, config, recipe.seed, device, progress or (lambda what, done, total: None))
    score = course.held_out()
    head = course.train(np.arange(len(outcomes)), "reward head")
    about = {
        "scores": asdict(score),
        "tokenizer": read_artifact(run / "tokenizer", "tokenizer").sha256,
        "labels": outcome_fingerprint(known),
        "labels_given": labels is not None,
        "seed": recipe.seed,
    }
    _keep(run / FOLDER, head, about)
    return head, score


def _budget(labels: Labels, config: RewardConfig, seed: int) -> Labels:
    num = min(config.labels_episodes, len(labels.episodes))
    return labels.budget_episodes(num, seed) if num else labels


def _keep(folder: Path, head: RewardHead, about: dict[str, object]) -> None:
    try:
        save_reward(folder, head, about)
    except OSError as error:  # a run may lie where one may not write
        warnings.warn(f"{folder}: the reward head is not kept ({error.strerror})", stacklevel=3)


@dataclass(frozen=True)
class _Course:
    """A way of training, to be gone through with one set of transitions or another."""

    outcomes: Outcomes
    config: RewardConfig
    seed: int
    device: str
    progress: Progress

    def held_out(self) -> RewardScore:
        """Train without each fold, and judge all answers together."""
        folds = self._folds()
        logit, reward = (np.zeros(len(self.outcomes)) for _ in range(2))
        for fold in range(folds.max() + 1):
            hidden = np.flatnonzero(folds == fold)
            head = self.train(np.flatnonzero(folds != fold), f"reward head without fold {fold + 1}")
            logit[hidden], reward[hidden] = self._ask(head, hidden)
        return score_reward(self.outcomes, logit, reward)

    def train(self, rows: Int[ndarray, " k"], doing: str) -> RewardHead:
        """A head that has seen these transitions; a quarter of every batch are ends."""
        ended, config = self.outcomes.ended, self.config
        head = self._new_head(rows)
        ends, others = rows[ended[rows]], rows[~ended[rows]]
        optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
        generator = np.random.default_rng(self.seed)
        num_ends = config.batch // 4
        for step in range(config.steps):
            drawn = np.concatenate(
                [generator.choice(ends, num_ends), generator.choice(others, config.batch - num_ends)]
            )
            loss = self._loss(head, drawn)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            self.progress(doing, step + 1, config.steps)
        return head.eval()

    def _loss(self, head: RewardHead, drawn: Int[ndarray, " b"]) -> Float[torch.Tensor, ""]:
        """Cross-entropy of the end in nats, and the squared error of the normalised reward of what happened."""
        out = head(self.outcomes.pairs(drawn).to(self.device))
        ended = torch.from_numpy(self.outcomes.ended[drawn]).to(self.device)
        reward = torch.from_numpy(self.outcomes.reward[drawn]).float().to(self.device)
        kind = ended.long()
        told = out[:, 1:].gather(1, kind[:, None])[:, 0]
        wanted = (reward - head.reward_mean[kind]) / head.reward_std[kind]
        return F.binary_cross_entropy_with_logits(out[:, 0], ended.float()) + F.mse_loss(told, wanted)

    def _new_head(self, rows: Int[ndarray, " k"]) -> RewardHead:
        ended, reward = self.outcomes.ended[rows], self.outcomes.reward[rows]
        share, shown = ended.mean(), (self.config.batch // 4) / self.config.batch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            head = RewardHead(self.config, self.outcomes.frames.shape[1:3])
        head.log_odds.fill_(math.log(share / (1 - share)) - math.log(shown / (1 - shown)))
        for kind, own in enumerate((reward[~ended], reward[ended])):
            spread = float(own.std())
            head.reward_mean[kind] = float(own.mean())
            head.reward_std[kind] = spread if spread > SAME else 1.0
        return head.to(self.device).train()

    @torch.inference_mode()
    def _ask(self, head: RewardHead, rows: Int[ndarray, " k"]) -> tuple[ndarray, ndarray]:
        found = [
            head.read(head(self.outcomes.pairs(rows[first : first + ASKED]).to(self.device)))
            for first in range(0, len(rows), ASKED)
        ]
        logit, reward = (
            torch.cat([getattr(each, name) for each in found]).cpu().numpy() for name in ("logit", "reward")
        )
        return logit, reward

    def _folds(self) -> Int[ndarray, " k"]:
        """The fold of each transition: episodes that end are dealt first, so that every fold has some."""
        names, where = np.unique(self.outcomes.episode, return_inverse=True)
        ends = np.bincount(where, weights=self.outcomes.ended) > 0
        if ends.sum() < 2 or self.outcomes.ended.all():
            raise UserError(
                f"labels: {int(ends.sum())} of {len(names)} labelled episodes come to an end; expected at least 2, "
                "and transitions that do not end; label more episodes, or reward a goal image: goal=IMAGE"
            )
        order = np.random.default_rng(self.seed).permutation(len(names))
        order = order[np.argsort(~ends[order], kind="stable")]
        dealt = np.empty(len(names), np.int64)
        dealt[order] = np.arange(len(names)) % min(self.config.folds, int(ends.sum()))
        self._check_folds(dealt[where])
        return dealt[where]

    def _check_folds(self, folds: Int[ndarray, " k"]) -> None:
        goes_on = folds[~self.outcomes.ended]
        if len(np.unique(goes_on)) < 2:
            raise UserError(
                f"labels: all {len(goes_on)} transitions that do not end are in one of {folds.max() + 1} folds, and "
                "the head that is to judge it would see none; label more episodes, all of their frames"
            )


def score_reward(
    outcomes: Outcomes, logit: Float[ndarray, " k"], reward: Float[ndarray, " k"]
) -> RewardScore:
    """Judge answers; see `RewardScore`."""
    told, ended = logit > 0, outcomes.ended
    return RewardScore(
        episodes=len(np.unique(outcomes.episode)),
        transitions=len(outcomes),
        ends=int(ended.sum()),
        auroc=auroc(logit, ended),
        accuracy=float((told == ended).mean()),
        base_rate=float((~ended).mean()),
        recall=float(told[ended].mean()),
        precision=float(ended[told].mean()) if told.any() else 0.0,
        reward_mae=float(np.abs(reward - outcomes.reward).mean()),
        reward_mae_mean=float(np.abs(outcomes.reward - outcomes.reward.mean()).mean()),
    )


def auroc(score: Float[ndarray, " k"], positive: Bool[ndarray, " k"]) -> float:
    """Chance that a positive scores above a negative, ties counting half: 0.5 for guessing, 1 for a perfect order."""
    _, where, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[where]
    num = int(positive.sum())
    others = len(positive) - num
    return float((rank[positive].sum() - num * (num + 1) / 2) / (num * others))
