"""What the tokenizer gives back, and what the latent action model foretells one frame ahead.

The latent action model stands beside two baselines: copying the last frame, and itself with the codes of
*other* transitions. The second tells whether the code is read at all: about 0 dB below it, it is ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat

from genie_lite.data.loading.loader import Clip
from genie_lite.evals import fidelity
from genie_lite.evals.codes import Usage, usage
from genie_lite.evals.fidelity import compare, join
from genie_lite.evals.tree import to_tree
from genie_lite.models.lam import LatentActionModel
from genie_lite.models.tokenizer import VideoTokenizer
from genie_lite.types import Interval


@dataclass(frozen=True)
class TokenizerScore:
    """psnr_db, ssim: of all held-out frames, interval over episodes. usage: of the vocabulary of tokens."""

    psnr_db: Interval
    ssim: Interval
    usage: Usage

    def tree(self) -> dict[str, Any]:
        """The section `tokenizer` of the report."""
        return {
            "psnr_db": self.psnr_db.mean,
            "ssim": self.ssim.mean,
            "codes_used": self.usage.codes_used,
            "num_codes": self.usage.num_codes,
            "perplexity": self.usage.perplexity,
            "interval": to_tree({"psnr_db": self.psnr_db, "ssim": self.ssim}),
        }


@dataclass(frozen=True)
class LAMScore:
    """One-frame prediction with true past frames, in dB, intervals over episodes.

    copy_last_psnr_db: of the frame before. shuffled_psnr_db: with the codes of other transitions.
    gain_db: over copy-last. code_gain_db: over shuffled codes; 0 when codes are ignored.
    """

    psnr_db: Interval
    ssim: Interval
    copy_last_psnr_db: Interval
    shuffled_psnr_db: Interval
    gain_db: Interval
    code_gain_db: Interval
    usage: Usage

    def tree(self) -> dict[str, Any]:
        """The section `lam` of the report."""
        dB = {
            "psnr_db": self.psnr_db,
            "ssim": self.ssim,
            "copy_last_psnr_db": self.copy_last_psnr_db,
            "shuffled_psnr_db": self.shuffled_psnr_db,
            "gain_db": self.gain_db,
            "code_gain_db": self.code_gain_db,
        }
        return {name: each.mean for name, each in dB.items()} | {
            "codes_used": self.usage.codes_used,
            "num_codes": self.usage.num_codes,
            "perplexity": self.usage.perplexity,
            **self.usage.listing(),
            "interval": to_tree(dB),
        }


@torch.inference_mode()
def score_tokenizer(tokenizer: VideoTokenizer, clips: Sequence[Clip]) -> TokenizerScore:
    """Reconstruct held-out clips; any token that occurs counts as used."""
    parts, tokens = [], []
    for clip in clips:
        out = tokenizer(clip.frames)
        parts.append(_flat(compare(out.reconstruction, clip.frames)))
        tokens.append(out.code.index.cpu().numpy().ravel())
    closeness, episodes = join(parts), _episode_of_frames(clips, 0)
    return TokenizerScore(
        psnr_db=fidelity.psnr_db(closeness.error, episodes),
        ssim=fidelity.similarity(closeness.ssim, episodes),
        usage=usage(np.concatenate(tokens), tokenizer.num_codes, at_least=0.0),
    )


@torch.inference_mode()
def score_lam(lam: LatentActionModel, clips: Sequence[Clip], seed: int = 0) -> LAMScore:
    """Predict every frame of held-out clips but the first from its past and its inferred code."""
    codes = [lam.encode(clip.frames) for clip in clips]
    shuffled = _shuffled([code.vector for code in codes], seed)
    ours, copied, wrong = [], [], []
    for clip, code, other in zip(clips, codes, shuffled, strict=True):
        past, target = clip.frames[:, :-1], clip.frames[:, 1:]
        ours.append(_flat(compare(lam.decode(past, code.vector), target)))
        copied.append(_flat(compare(past, target)))
        wrong.append(_flat(compare(lam.decode(past, other), target)))
    model, copy, other = join(ours), join(copied), join(wrong)
    episodes = _episode_of_frames(clips, 1)
    index = np.concatenate([code.index.cpu().numpy().ravel() for code in codes])
    return LAMScore(
        psnr_db=fidelity.psnr_db(model.error, episodes),
        ssim=fidelity.similarity(model.ssim, episodes),
        copy_last_psnr_db=fidelity.psnr_db(copy.error, episodes),
        shuffled_psnr_db=fidelity.psnr_db(other.error, episodes),
        gain_db=fidelity.gain_db(model.error, copy.error, episodes),
        code_gain_db=fidelity.gain_db(model.error, other.error, episodes),
        usage=usage(index, lam.num_codes),
    )


def _shuffled(vectors: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """The same vectors in another order over all clips, so that the marginal stays."""
    rows = torch.cat([rearrange(vector, "b k d -> (b k) d") for vector in vectors])
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    pieces = rows[order.to(rows.device)].split([vector.shape[0] * vector.shape[1] for vector in vectors])
    return [piece.reshape(vector.shape) for piece, vector in zip(pieces, vectors, strict=True)]


def _flat(closeness: fidelity.Closeness) -> fidelity.Closeness:
    return fidelity.Closeness(closeness.error.ravel(), closeness.ssim.ravel())


def _episode_of_frames(clips: Sequence[Clip], skipped: int) -> np.ndarray:
    """The episode of every frame, in the order of `_flat`, without the first `skipped` frames of a clip."""
    return np.concatenate(
        [repeat(np.asarray(clip.source), "b -> (b t)", t=clip.frames.shape[1] - skipped) for clip in clips]
    )
