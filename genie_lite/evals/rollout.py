"""How long the world stays right: sampled frames against what really followed.

    held-out clip:  prompt │ what followed
    codes:                 │ inferred from the clip by the latent action model
    world:          prompt ─▶ sampled frames, each from the sampled ones before it, never from true ones

Teacher-forced losses fall while such rollouts rot, so only sampled frames are scored. Three curves belong
together: the world, copying the prompt's last frame (a world that does nothing), and the tokenizer's
reconstruction of the true frame (the best that any dynamics could reach).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from genie_lite.data.loading.loader import Clip
from genie_lite.errors import UserError
from genie_lite.evals import fidelity
from genie_lite.evals.fidelity import compare, join
from genie_lite.evals.tree import to_tree
from genie_lite.models.world import World
from genie_lite.types import Interval

HORIZONS = (1, 4, 8, 15)


@dataclass(frozen=True)
class Continuation:
    """A batch of held-out clips and the world's sampled continuation of their first frames.

    prompt: the given frames. target: the frames that followed. codes: the inferred latent action that led to
    each of them. sampled: the world's frames for the same codes. episodes: one name per clip.
    seed: that the world was given.
    """

    prompt: Float[Tensor, "b t c h w"]
    target: Float[Tensor, "b k c h w"]
    codes: Int[Tensor, "b k"]
    sampled: Float[Tensor, "b k c h w"]
    episodes: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class RolloutScore:
    """Per horizon t (frames after the prompt): PSNR in dB and SSIM with intervals over episodes.

    gain_db: the world's PSNR minus copy-last's on the same frames; above 0 when the world knows more.
    """

    prompt_frames: int
    psnr_db: dict[int, Interval]
    copy_last_psnr_db: dict[int, Interval]
    ceiling_psnr_db: dict[int, Interval]
    ssim: dict[int, Interval]
    copy_last_ssim: dict[int, Interval]
    ceiling_ssim: dict[int, Interval]
    gain_db: dict[int, Interval]

    def tree(self) -> dict[str, Any]:
        """The section `rollout` of the report: means by t, and the intervals apart under `interval`."""
        series = {name: getattr(self, name) for name in SERIES}
        means = {name: {str(t): each.mean for t, each in by_t.items()} for name, by_t in series.items()}
        return means | {
            "gain_db": to_tree(self.gain_db),
            "interval": to_tree(series),
            "prompt_frames": self.prompt_frames,
            "episodes": next(iter(self.psnr_db.values())).num,
        }


SERIES = ("psnr_db", "copy_last_psnr_db", "ceiling_psnr_db", "ssim", "copy_last_ssim", "ceiling_ssim")


@torch.inference_mode()
def continue_clips(
    world: World,
    clips: Sequence[Clip],
    *,
    prompt_frames: int = 1,
    horizon: int = max(HORIZONS),
    seed: int = 0,
    codes: Sequence[Int[Tensor, "b k"]] | None = None,
) -> list[Continuation]:
    """Let the world continue held-out clips, with the codes that the clips themselves contain.

    Args:
        world: to continue them.
        clips: held out.
        prompt_frames: given of each.
        horizon: frames to foretell.
        seed: of the first clip's noise.
        codes: of all transitions of each clip; inferred by the latent action model where not given. A world of true
            actions needs them.

    Raises:
        UserError: a clip is shorter than prompt and horizon together.
    """
    needed = prompt_frames + horizon
    made = []
    for number, clip in enumerate(clips):
        if clip.frames.shape[1] < needed:
            raise UserError(
                f"rollout: clips of {clip.frames.shape[1]} frames; expected at least {needed} "
                f"({prompt_frames} given, {horizon} to foretell); ask for longer clips or a shorter horizon"
            )
        frames = clip.frames[:, :needed]
        found = world.lam.encode(frames).index if codes is None else codes[number][:, : needed - 1]
        ahead = found[:, prompt_frames - 1 :]
        prompt, target = frames[:, :prompt_frames], frames[:, prompt_frames:]
        # Each batch draws its own noise; the same number gives the same noise whatever the codes.
        sampled = world.rollout(prompt, ahead, seed + number)
        made.append(Continuation(prompt, target, ahead, sampled, tuple(clip.source), seed + number))
    return made


@torch.inference_mode()
def score_rollout(
    world: World, continuations: Sequence[Continuation], horizons: Sequence[int] = HORIZONS
) -> RolloutScore:
    """Score sampled continuations at the given horizons (1 is the first sampled frame)."""
    sampled = join([compare(each.sampled, each.target) for each in continuations])
    copied = join([compare(_copy_last(each), each.target) for each in continuations])
    ceiling = join([compare(_ceiling(world, each), each.target) for each in continuations])
    episodes = np.asarray([name for each in continuations for name in each.episodes])

    def psnr(closeness: fidelity.Closeness) -> dict[int, Interval]:
        return {t: fidelity.psnr_db(closeness.error[:, t - 1], episodes) for t in horizons}

    def ssim(closeness: fidelity.Closeness) -> dict[int, Interval]:
        return {t: fidelity.similarity(closeness.ssim[:, t - 1], episodes) for t in horizons}

    return RolloutScore(
        prompt_frames=continuations[0].prompt.shape[1],
        psnr_db=psnr(sampled),
        copy_last_psnr_db=psnr(copied),
        ceiling_psnr_db=psnr(ceiling),
        ssim=ssim(sampled),
        copy_last_ssim=ssim(copied),
        ceiling_ssim=ssim(ceiling),
        gain_db={
            t: fidelity.gain_db(sampled.error[:, t - 1], copied.error[:, t - 1], episodes) for t in horizons
        },
    )


def _copy_last(each: Continuation) -> Tensor:
    return repeat(each.prompt[:, -1], "b c h w -> b k c h w", k=each.target.shape[1])


def _ceiling(world: World, each: Continuation) -> Tensor:
    frames = torch.cat([each.prompt, each.target], dim=1)
    return world.tokenizer(frames).reconstruction[:, each.prompt.shape[1] :]
