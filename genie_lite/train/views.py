"""What a step of the latent action model shows of its clips: one view to the encoder, another to the decoder.

Random numbers are drawn for the clips of all processes together, and each takes those of its own, so that the view
of a clip is a function of the step and of its place in the joint batch.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genie_lite.data.loading.clip import Clip
from genie_lite.nn.augment import AugmentConfig, AugmentPair, Share, View, draw_view


@dataclass(frozen=True)
class Views:
    """frames: what the decoder is given and foretells. seen: what the encoder is shown, None for the same.

    pixel_weight: how much each pixel of frames[1:] counts, of mean 1 over a clip; None: all the same.
    """

    frames: Float[Tensor, "b t c h w"]
    seen: Float[Tensor, "b t c h w"] | None
    pixel_weight: Float[Tensor, "b k 1 h w"] | None


def views_of(clip: Clip, augment: AugmentPair, seed: int, share: Share) -> Views:
    """The two views of a step; without augmentation, the clip as it is.

    Args:
        clip: this process's part of the joint batch.
        augment: how far views may differ.
        seed: of the step.
        share: which part it is, of how many.
    """
    if augment == AugmentPair():
        return Views(clip.frames, None, clip.weight)
    generator = torch.Generator().manual_seed(seed)
    inverse, forward = (
        _drawn(clip.frames, config, generator, share) for config in (augment.inverse, augment.forward)
    )
    weight = None if clip.weight is None else _of_mean_one(forward.warp(clip.weight))
    return Views(forward.of(clip.frames), inverse.of(clip.frames), weight)


def view_of(
    frames: Float[Tensor, "b t c h w"], config: AugmentConfig, generator: torch.Generator, share: Share
) -> Float[Tensor, "b t c h w"]:
    """One view of this process's part of a joint batch."""
    return _drawn(frames, config, generator, share).of(frames)


def _of_mean_one(weight: Float[Tensor, "b k 1 h w"]) -> Float[Tensor, "b k 1 h w"]:
    """What a view shows more or less of counts no more or less for it; a clip of no weight at all stays one."""
    return weight / weight.mean(dim=(1, 2, 3, 4), keepdim=True).clamp_min(1e-6)


def _drawn(frames: Tensor, config: AugmentConfig, generator: torch.Generator, share: Share) -> View:
    num, frame_hw = len(frames) * share[1], (frames.shape[-2], frames.shape[-1])
    return draw_view(config, num, frame_hw, generator).part(share)
