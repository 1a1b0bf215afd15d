"""What is measured on the held-out clips during training: cheap, deterministic, teacher-forced.

PSNR here is that of the mean squared error over all frames at once: a mean of the frames' own PSNR would
be ruled by frames in which nothing moves. Sampled frames and intervals are the evaluation's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genie_lite.data.loading.clip import Clip, TokenClip
from genie_lite.metrics import (
    active_units,
    code_usage,
    effective_rank,
    kl_per_dim_nats,
    perplexity,
    psnr_db,
)
from genie_lite.models import dynamics as dynamics_model
from genie_lite.models.dynamics import DynamicsModel, DynamicsWeights
from genie_lite.models.lam import LatentActionModel
from genie_lite.models.tokenizer import VideoTokenizer
from genie_lite.nn.quantize import Quantizer
from genie_lite.train.panel import panel
from genie_lite.types import Quantized

PANEL_CLIPS = 3


@dataclass(frozen=True)
class Measured:
    """metrics: by name, with units. picture: a few reconstructions, `y x c`, or None."""

    metrics: dict[str, float]
    picture: UInt8[Tensor, "y x c"] | None = None


def pooled_psnr_db(
    prediction: Sequence[Float[Tensor, "b t c h w"]], target: Sequence[Float[Tensor, "b t c h w"]]
) -> float:
    """PSNR in dB of the mean squared error over all frames of all batches; 100 when all are equal."""
    return float(psnr_db(_one_picture(prediction), _one_picture(target)))


def code_health(index: Int[Tensor, "*rows"], num_codes: int) -> dict[str, float]:
    """How many codes occur, their share, and how many equally frequent codes carry as much."""
    usage = code_usage(index, num_codes)
    return {
        "codes_used": float(round(usage * num_codes)),
        "code_usage": usage,
        "perplexity": perplexity(index, num_codes),
    }


def bottleneck_health(codes: Sequence[Quantized], quantizer: Quantizer) -> dict[str, float]:
    """What a bottleneck lets through, by the measures that fit its kind.

    Of every kind `code_health`; of a continuous one that is of its nearest centres.

    token_j_usage, token_j_perplexity: of each token by itself, where a code is made of several.
    active_units, effective_rank: of continuous vectors; see `metrics.py`. kl_nats: divergence from the prior of a
    VAE. kl_nats_dim_i: of each of its channels.
    """
    health = code_health(torch.cat([code.index.reshape(-1) for code in codes]), quantizer.num_codes)
    if quantizer.num_tokens > 1:
        tokens = torch.cat([rearrange(code.tokens, "... m -> (...) m") for code in codes])
        health |= _token_health(tokens, quantizer.sizes)
    if quantizer.is_continuous:
        vectors = torch.cat([rearrange(code.embedding, "... d -> (...) d") for code in codes])
        health |= {"active_units": float(active_units(vectors)), "effective_rank": effective_rank(vectors)}
        health |= _divergence(vectors, [code.spread for code in codes])
    return health


def _token_health(tokens: Int[Tensor, "rows m"], sizes: Sequence[int]) -> dict[str, float]:
    each = list(zip(tokens.unbind(dim=-1), sizes, strict=True))
    return {f"token_{at}_usage": code_usage(token, num) for at, (token, num) in enumerate(each)} | {
        f"token_{at}_perplexity": perplexity(token, num) for at, (token, num) in enumerate(each)
    }


def _divergence(mean: Float[Tensor, "rows d"], spreads: Sequence[Tensor | None]) -> dict[str, float]:
    known = [rearrange(spread, "... d -> (...) d") for spread in spreads if spread is not None]
    if not known:
        return {}
    nats = kl_per_dim_nats(mean, torch.cat(known)).tolist()
    return {"kl_nats": float(sum(nats))} | {f"kl_nats_dim_{at}": each for at, each in enumerate(nats)}


@torch.no_grad()
def measure_tokenizer(model: VideoTokenizer, clips: Sequence[Clip]) -> Measured:
    """Reconstruction of the clips, and the health of the vocabulary."""
    outs = [model(clip.frames) for clip in clips]
    reconstructions, frames = [out.reconstruction for out in outs], [clip.frames for clip in clips]
    index = torch.cat([out.code.index.reshape(-1) for out in outs])
    metrics = {"psnr_db": pooled_psnr_db(reconstructions, frames), **code_health(index, model.num_codes)}
    pairs = zip(frames[:PANEL_CLIPS], reconstructions, strict=False)
    return Measured(metrics, panel([rows[0] for pair in pairs for rows in pair]))


@torch.no_grad()
def measure_lam(model: LatentActionModel, clips: Sequence[Clip]) -> Measured:
    """Prediction of the next frame with the inferred code, beside copying and beside a wrong code.

    control_db: what the prediction loses when every transition gets the code of another one; 0 when the
    decoder ignores the code.
    """
    outs = [model(clip.frames) for clip in clips]
    past, target = [clip.frames[:, :-1] for clip in clips], [clip.frames[:, 1:] for clip in clips]
    predictions = [out.prediction for out in outs]
    wrong_codes = _shuffle([out.code.vector for out in outs])
    wrong = [model.decode(frames, vector) for frames, vector in zip(past, wrong_codes, strict=True)]
    reached = pooled_psnr_db(predictions, target)
    metrics = {
        "psnr_db": reached,
        "copy_psnr_db": pooled_psnr_db(past, target),
        "control_db": reached - pooled_psnr_db(wrong, target),
        **bottleneck_health([out.code for out in outs], model.quantizer),
    }
    triples = zip(target[:PANEL_CLIPS], predictions, wrong, strict=False)
    return Measured(metrics, panel([rows[0] for triple in triples for rows in triple]))


@torch.no_grad()
def measure_dynamics(
    model: DynamicsModel, code_vectors: Float[Tensor, "num_codes d"], clips: Sequence[TokenClip]
) -> Measured:
    """Prediction of hidden tokens with the inferred codes and with wrong ones; both hide the same tokens.

    control_nats: what the cross-entropy gains when every transition gets the code of another one; 0 when
    the model ignores the code.
    """
    vectors = [code_vectors[clip.codes] for clip in clips]
    right = [_masked_score(model, clip, codes) for clip, codes in zip(clips, vectors, strict=True)]
    wrong = [_masked_score(model, clip, codes) for clip, codes in zip(clips, _shuffle(vectors), strict=True)]
    cross_entropy, accuracy = torch.tensor(right).mean(dim=0).tolist()
    wrong_cross_entropy = float(torch.tensor(wrong).mean(dim=0)[0])
    return Measured(
        {
            "cross_entropy": cross_entropy,
            "accuracy": accuracy,
            "control_nats": wrong_cross_entropy - cross_entropy,
        }
    )


@torch.no_grad()
def measure_led(
    model: DynamicsModel,
    vectors: Float[Tensor, "num_rows d"],
    without: Sequence[TokenClip],
    labelled: Sequence[TokenClip],
) -> Measured:
    """As `measure_dynamics`, of a model that true actions lead; codes are rows of its table.

    missing_cross_entropy, missing_accuracy: where no action is known. The others: where some are, and there are
    windows with labels; control_nats then says what knowing the true action, not that of another transition, gains.

    Args:
        model: to measure.
        vectors: its table.
        without: held-out windows, no action known.
        labelled: held-out windows with labels; there may be none.
    """
    unled = measure_dynamics(model, vectors, without).metrics
    missing = {f"missing_{name}": unled[name] for name in ("cross_entropy", "accuracy")}
    return Measured(missing | (measure_dynamics(model, vectors, labelled).metrics if labelled else {}))


def _masked_score(model: DynamicsModel, clip: TokenClip, codes: Tensor) -> tuple[float, float]:
    out = model(clip.tokens, codes, torch.Generator().manual_seed(0))
    loss = dynamics_model.objective(out, clip.tokens, DynamicsWeights())
    return float(loss.terms["cross_entropy"]), dynamics_model.accuracy(out, clip.tokens)


def _shuffle(vectors: Sequence[Float[Tensor, "b k d"]]) -> list[Float[Tensor, "b k d"]]:
    """The same vectors, each at another transition of any clip: a fixed permutation."""
    flat = rearrange(torch.cat(list(vectors)), "b k d -> (b k) d")
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(0)).to(flat.device)
    mixed = rearrange(flat[order], "(b k) d -> b k d", k=vectors[0].shape[1])
    return list(mixed.split([len(rows) for rows in vectors]))


def _one_picture(batches: Sequence[Float[Tensor, "b t c h w"]]) -> Float[Tensor, "c y w"]:
    return rearrange(torch.cat(list(batches)), "b t c h w -> c (b t h) w")
