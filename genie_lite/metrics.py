"""Pure measurements, in stated units, with their value at the extremes."""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

MOST_COUNTED = 2**16  # codes of an alphabet of which each is counted, whether it occurs or not


def psnr_db(
    prediction: Float[Tensor, "*rows c h w"], target: Float[Tensor, "*rows c h w"]
) -> Float[Tensor, "*rows"]:
    """Peak signal-to-noise ratio of each frame in dB, pixels in [0, 1]; equal frames give 100."""
    error = (prediction.float().clamp(0, 1) - target.float()).square().mean(dim=(-3, -2, -1))
    return -10 * torch.log10(error.clamp_min(1e-10))


def ssim(
    prediction: Float[Tensor, "*rows c h w"], target: Float[Tensor, "*rows c h w"]
) -> Float[Tensor, "*rows"]:
    """Structural similarity of each frame in [-1, 1]; equal frames give 1.

    Source: Wang et al. 2004, as torchmetrics computes it (Gaussian window, sigma 1.5).
    """
    from genie_lite.torchvision_shim import repair

    repair()
    from torchmetrics.functional.image import structural_similarity_index_measure

    rows = prediction.shape[:-3]
    flat = (
        rearrange(prediction.float().clamp(0, 1), "... c h w -> (...) c h w")
        if rows
        else prediction[None].float()
    )
    true = rearrange(target.float(), "... c h w -> (...) c h w") if rows else target[None].float()
    value = structural_similarity_index_measure(flat, true, data_range=1.0, reduction="none")
    assert isinstance(value, Tensor)
    return value.reshape(rows)


def code_usage(index: Int[Tensor, "*rows"], num_codes: int, at_least: float = 0.0) -> float:
    """Share of the codes that occur in more than `at_least` of all rows; 2 of 8 codes used is 0.25."""
    share = _share(index, num_codes)
    if num_codes > MOST_COUNTED:  # the others have none
        return float((share > at_least).sum()) / num_codes
    return float((share > at_least).float().mean())


def perplexity(index: Int[Tensor, "*rows"], num_codes: int) -> float:
    """Two to the entropy in bits: how many equally frequent codes carry as much; 1 when one code is used."""
    share = _share(index, num_codes)
    return float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))


def active_units(mean: Float[Tensor, "*rows d"], at_least: float = 0.01) -> int:
    """Channels whose mean varies from row to row by a variance above `at_least`; 0 when all rows are alike.

    Source: Burda et al., arXiv:1509.00519, section 4.2.
    """
    return int((_flat(mean).var(dim=0, unbiased=False) > at_least).sum())


def kl_per_dim_nats(mean: Float[Tensor, "*rows d"], spread: Float[Tensor, "*rows d"]) -> Float[Tensor, " d"]:
    """Divergence of normals from the standard normal in nats, per channel, mean over the rows; 0 when they are it.

    Args:
        mean: of the normals.
        spread: their standard deviations.
    """
    mean, var = _flat(mean), _flat(spread).square()
    return 0.5 * (mean.square() + var - 1 - var.log()).mean(dim=0)


def effective_rank(vector: Float[Tensor, "*rows d"]) -> float:
    """How many equally wide directions vary as much: d when all do alike, 1 on a line, 0 when all rows are alike.

    Source: Roy and Vetterli 2007. Differs: of the covariance's eigenvalues, which are shares of the variance.
    """
    flat = _flat(vector)
    width = torch.linalg.eigvalsh((flat - flat.mean(dim=0)).T.cov(correction=0).reshape(len(flat.T), -1))
    total = float(width.sum())
    if total < 1e-9:
        return 0.0
    share = (width / total).clamp_min(1e-12)
    return float(torch.exp(-(share * share.log()).sum()))


def _flat(rows: Tensor) -> Tensor:
    return rows.detach().reshape(-1, rows.shape[-1]).double()


def _share(index: Tensor, num_codes: int) -> Tensor:
    """Of every code of an alphabet; of one that is too large for that, of those that occur."""
    if num_codes > MOST_COUNTED:
        count = index.reshape(-1).unique(return_counts=True)[1].double()
        return count / count.sum().clamp_min(1)
    count = torch.bincount(index.reshape(-1).long(), minlength=num_codes).double()
    return count / count.sum().clamp_min(1)
