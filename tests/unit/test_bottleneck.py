"""Every kind of bottleneck behind one face: what it chooses, what it lets through, and what it learns from."""

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from vector_quantize_pytorch import FSQ

import genie_lite.pretrained
from genie_lite.config import parse
from genie_lite.errors import UserError
from genie_lite.models.lam import LAMConfig, load_lam
from genie_lite.models.tokenizer import TokenizerConfig, load_tokenizer
from genie_lite.nn.bottleneck import continuous, processes
from genie_lite.nn.quantize import (
    FSQConfig,
    NoneConfig,
    Quantizer,
    ResidualVQConfig,
    VAEConfig,
    VQConfig,
)

WIDTH = 6
DISCRETE: list[Any] = [
    VQConfig(num_codes=8, dim=4),
    VQConfig(num_codes=4, dim=4, tokens=3),
    VQConfig(num_codes=4, dim=3, tokens=2, share=False, cosine=False),
    ResidualVQConfig(num_codes=4, dim=4, depth=3),
    ResidualVQConfig(num_codes=4, dim=4, depth=3, share=True),
    FSQConfig(levels=(4, 3)),
]
HUGE: list[Any] = [  # alphabets that nobody could list: LAPO's, Moto's, and levels of different sizes
    VQConfig(num_codes=64, dim=2, tokens=8, restart_below=1.0),
    ResidualVQConfig(num_codes=128, dim=4, depth=8),
    FSQConfig(levels=(8, 8, 8, 5, 5, 5, 5, 3)),
]
CONTINUOUS: list[Any] = [VAEConfig(dim=4, menu=5), NoneConfig(dim=4, menu=5)]


def rows(num: int = 64, seed: int = 0) -> Tensor:
    return torch.randn(num, 3, WIDTH, generator=torch.Generator().manual_seed(seed))


def trained(config: Any, steps: int = 30) -> Quantizer:
    """One that has seen some rows, ready to be asked."""
    torch.manual_seed(0)
    quantizer = Quantizer(config, WIDTH)
    for step in range(steps):
        quantizer(rows(seed=step))
    return quantizer.eval()


@pytest.mark.parametrize("config", DISCRETE)
def test_an_index_is_its_tokens_and_stands_for_the_vector_that_came_out(config: Any) -> None:
    quantizer = trained(config)
    out = quantizer(rows())
    assert not quantizer.is_continuous
    assert out.tokens.shape == (64, 3, quantizer.num_tokens)
    assert torch.equal(quantizer.vector_of(out.index), out.vector)
    assert torch.equal(quantizer.index_of(out.tokens), out.index)
    assert torch.equal(quantizer.tokens_of(out.index), out.tokens)
    assert quantizer.all_vectors().shape == (quantizer.num_codes, quantizer.dim)
    assert out.index.unique().numel() > 2
    assert out.spread is None
    assert out.kl == 0


@pytest.mark.parametrize("config", CONTINUOUS)
def test_a_continuous_vector_passes_as_it_is_and_its_index_is_the_nearest_centre(config: Any) -> None:
    quantizer = trained(config)
    out = quantizer(rows())
    assert quantizer.is_continuous
    assert torch.equal(out.vector, out.embedding)
    distance = torch.cdist(out.embedding.reshape(-1, 4), quantizer.all_vectors())
    assert torch.equal(distance.argmin(dim=1), out.index.flatten())
    assert torch.equal(quantizer.vector_of(torch.arange(5)), quantizer.all_vectors())
    assert out.index.unique().numel() == 5, "all centres are in use"


@pytest.mark.parametrize("config", [*DISCRETE, *CONTINUOUS])
def test_everything_is_computed_in_float32(config: Any) -> None:
    quantizer = Quantizer(config, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        out = quantizer(rows().bfloat16())
    assert {out.vector.dtype, out.embedding.dtype, out.kl.dtype, out.commitment.dtype} == {torch.float32}


@pytest.mark.parametrize("config", [*DISCRETE, *CONTINUOUS])
def test_what_was_learnt_is_kept_under_names_that_load_into_a_new_one(config: Any) -> None:
    quantizer = trained(config)
    again = Quantizer(config, WIDTH)
    again.load_state_dict(quantizer.state_dict())
    again.eval()
    assert torch.equal(again(rows()).vector, quantizer(rows()).vector)
    assert torch.equal(again(rows()).index, quantizer(rows()).index)
    storages = [tensor.data_ptr() for tensor in quantizer.state_dict().values()]
    assert len(set(storages)) == len(storages), "safetensors takes no tensor twice"


def test_names_of_weights_are_those_of_earlier_runs() -> None:
    known = {"project.weight", "standardize.mean", "standardize.var", "standardize.num_batches"}
    book = {f"layer._codebook.{name}" for name in ("initted", "cluster_size", "embed_avg", "embed")}
    assert Quantizer(VQConfig(), WIDTH).state_dict().keys() == known | book
    assert Quantizer(FSQConfig(), WIDTH).state_dict().keys() == known


def test_a_run_of_an_earlier_version_still_loads() -> None:
    run = Path(genie_lite.pretrained.__file__).parent / "coinrun"
    lam, tokenizer = load_lam(run / "lam"), load_tokenizer(run / "tokenizer")
    assert (lam.num_codes, lam.quantizer.num_tokens, lam.code_dim) == (6, 1, 32)
    assert lam.code_vectors().norm(dim=1).allclose(torch.ones(6), atol=1e-2)
    assert tokenizer.quantizer.num_tokens == 1


# --- several tokens --------------------------------------------------------------------------------------


def test_tokens_that_share_have_one_book_and_others_one_each() -> None:
    shared, own = (
        Quantizer(VQConfig(num_codes=4, dim=2, tokens=3, share=each), WIDTH) for each in (True, False)
    )
    assert shared.layer._codebook.embed.shape == (1, 4, 2)
    assert own.layer._codebook.embed.shape == (3, 4, 2)
    deep = ResidualVQConfig(num_codes=4, dim=2, depth=3)
    assert len(Quantizer(deep, WIDTH).layer.books) == 3
    assert len(Quantizer(deep.model_copy(update={"share": True}), WIDTH).layer.books) == 1


@pytest.mark.parametrize("share", [True, False])
def test_each_further_book_misses_less_and_the_gradient_passes_once(share: bool) -> None:
    def missed(depth: int) -> float:
        quantizer = trained(ResidualVQConfig(num_codes=8, dim=4, depth=depth, share=share), steps=60)
        out = quantizer(rows())
        return (out.vector - out.embedding).square().mean().item()

    errors = [missed(depth) for depth in (1, 2, 3)]
    assert errors[0] > 1.2 * errors[1] > 1.2 * 1.2 * errors[2]

    quantizer = Quantizer(ResidualVQConfig(num_codes=8, dim=4, depth=3, share=share), WIDTH)
    out = quantizer(rows())
    (grad,) = torch.autograd.grad(out.vector.sum(), out.embedding)
    assert torch.equal(grad, torch.ones_like(grad))


@pytest.mark.parametrize("config", HUGE, ids=lambda config: config.kind)
def test_an_alphabet_that_cannot_be_listed_is_learnt_and_told_all_the_same(config: Any) -> None:
    quantizer = trained(config)
    out = quantizer(rows())
    assert 2**18 < quantizer.num_codes == math.prod(quantizer.sizes) < 2**63
    assert not quantizer.is_listable
    assert out.tokens.shape == (64, 3, quantizer.num_tokens) == (64, 3, 8)
    assert (out.tokens.amax(dim=(0, 1)) < torch.tensor(quantizer.sizes)).all()
    assert int(out.index.max()) >= 2**17, "not what 16 bits could hold"
    assert out.index.unique().numel() > 100
    assert torch.equal(quantizer.tokens_of(out.index), out.tokens)
    assert torch.equal(quantizer.index_of(out.tokens), out.index)
    torch.testing.assert_close(quantizer.vector_of(out.index), out.vector)
    with pytest.raises(UserError, match=r"codes, expected at most 65536 for a world"):
        quantizer.all_vectors()


def test_levels_that_can_be_listed_are_one_token_in_the_librarys_order() -> None:
    quantizer = trained(FSQConfig(levels=(4, 3, 5)))
    out = quantizer(rows())
    library = FSQ(levels=[4, 3, 5])
    embedding = out.embedding.reshape(1, -1, 3)
    vector, index = library(embedding)
    assert quantizer.sizes == (60,)
    assert torch.equal(out.index.flatten(), index.flatten().long())
    assert torch.equal(out.vector.reshape(1, -1, 3), vector)
    assert torch.equal(quantizer.all_vectors(), library.indices_to_codes(torch.arange(60)[None])[0])


def test_the_most_codes_that_there_may_be_are_listed_without_much_memory() -> None:
    quantizer = Quantizer(VQConfig(num_codes=16, dim=32, tokens=4), WIDTH)  # UniVLA's
    assert quantizer.num_codes == 65536
    vectors = quantizer.all_vectors()
    assert vectors.shape == (65536, 128)
    assert torch.equal(vectors[65535], quantizer.layer._codebook.embed[0, 15].repeat(4))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            {"kind": "vq", "num_codes": 128, "tokens": 10},
            "10 tokens of 128 make more than 2^63 codes, and a code is one number of 64 bits; take fewer tokens",
        ),
        ({"kind": "residual_vq", "num_codes": 2, "depth": 64}, "64 books of 2 make more than 2^63 codes"),
        ({"kind": "fsq", "levels": [4] * 32}, "4] make more than 2^63 codes"),
        ({"kind": "vq", "num_codes": 2, "tokens": 5000}, "5000 tokens of 2 make more than 2^63 codes"),
        ({"kind": "vae", "beta": -1.0}, "code.beta: found -1.0; expected at least 0"),
        ({"kind": "none", "menu": 1}, "code.menu: found 1; expected at least 2"),
        ({"kind": "lfq"}, "'lfq', expected one of 'vq', 'residual_vq', 'fsq', 'vae', 'none'"),
    ],
)
def test_what_no_bottleneck_can_be_is_said_in_a_line(code: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse({"code": code}, LAMConfig, "run.yaml")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ({"kind": "vae"}, "code: kind: found 'vae', expected one of 'vq', 'fsq'"),
        ({"kind": "vq", "num_codes": 16, "tokens": 2}, "code.tokens: found 2, expected 1"),
        ({"kind": "fsq", "levels": [256, 257]}, "code.levels: [256, 257] make more than 65536 codes"),
    ],
)
def test_a_tokenizer_has_one_discrete_token_per_patch(code: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse({"code": code}, TokenizerConfig, "run.yaml")
    assert words in str(caught.value)


# --- noise -----------------------------------------------------------------------------------------------


def test_a_vae_is_noisy_in_training_only_and_measures_its_divergence() -> None:
    torch.manual_seed(0)
    quantizer = Quantizer(VAEConfig(dim=4), WIDTH)
    out = quantizer(rows(2000))
    assert out.spread is not None
    noise = ((out.vector - out.embedding) / out.spread).detach().flatten()
    assert float(noise.mean()) == pytest.approx(0, abs=0.03)
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    normal = torch.distributions.Normal(out.embedding, out.spread)
    prior = torch.distributions.Normal(0.0, 1.0)
    wanted = torch.distributions.kl_divergence(normal, prior).sum(dim=-1).mean()
    torch.testing.assert_close(out.kl, wanted)
    quantizer.eval()
    assert torch.equal(quantizer(rows()).vector, quantizer(rows()).vector)


def test_noise_is_that_of_the_seed_and_processes_draw_the_parts_of_one_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def noise(batch: int, seed: int = 7) -> Tensor:
        torch.manual_seed(seed)
        return continuous._noise_like(torch.zeros(batch, 3, 4))

    whole = noise(6)
    assert torch.equal(noise(6), whole), "a resumed step draws what the interrupted one would have"
    assert not torch.equal(noise(6, seed=8), whole)
    for module in (continuous, processes):
        monkeypatch.setattr(module, "num_processes", lambda: 2)
    halves = []
    for rank in range(2):
        monkeypatch.setattr(processes.dist, "get_rank", lambda rank=rank: rank)
        halves.append(noise(3))
    assert torch.equal(torch.cat(halves), whole), "clips of two processes do not share noise"


@pytest.mark.parametrize(("beta", "is_told"), [(2e-4, False), (1e-5, False), (1e-6, True), (0.0, True)])
def test_a_vae_that_is_an_autoencoder_is_told_when_the_recipe_is_read(beta: float, is_told: bool) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):
            parse({"code": {"kind": "vae", "beta": beta}}, LAMConfig, "run.yaml")
    assert len(told) == is_told
    if is_told:
        assert "raise code.beta (2e-4 is usual)" in str(told[0].message)


# --- the menu --------------------------------------------------------------------------------------------


def test_centres_find_the_groups_there_are_though_all_begin_in_one_place() -> None:
    torch.manual_seed(0)
    menu = continuous.Menu(num=6, width=2)
    book: Any = menu._codebook
    book.embed.fill_(50.0)
    book.embed_avg.fill_(50.0)
    angle = torch.arange(6) * torch.pi / 3
    groups = torch.stack([angle.cos(), angle.sin()], dim=1)
    for _ in range(300):
        menu.nearest(groups[torch.randint(6, (128,))] + 0.02 * torch.randn(128, 2))
    menu.eval()
    assert menu.nearest(groups).unique().numel() == 6
    assert torch.cdist(groups, menu.centres(torch.arange(6)[:, None])).min(dim=1).values.max() < 0.1


@pytest.mark.parametrize(("num", "batch"), [(8, 56), (8, 480), (64, 96)])
def test_the_whole_menu_is_in_use_after_a_few_steps(num: int, batch: int) -> None:
    """Centres begin in one place of little count; they must not wait for a hundred steps to start anew."""
    torch.manual_seed(0)
    menu = continuous.Menu(num=num, width=32)
    groups = 3 * torch.randn(12, 32)
    index = torch.zeros(0)
    for _ in range(2):
        index = menu.nearest(groups[torch.randint(12, (batch,))] + 0.3 * torch.randn(batch, 32))
    assert index.unique().numel() >= min(num, 12)


def test_a_centre_that_gets_all_rows_of_the_first_batch_becomes_their_mean() -> None:
    """Nothing is left of where it was before there were any, and the others start at rows."""
    torch.manual_seed(0)
    menu = continuous.Menu(num=8, width=2)
    book: Any = menu._codebook
    book.embed[0, 1:] = 1e3
    found = torch.randn(64, 2)
    assert menu.nearest(found).unique().tolist() == [0]
    centres = menu.centres(torch.arange(8)[:, None])
    torch.testing.assert_close(centres[0], found.mean(dim=0), atol=1e-3, rtol=0)
    assert (torch.cdist(centres[1:], found).min(dim=1).values < 1e-2).all()


@pytest.mark.parametrize("config", CONTINUOUS)
def test_the_menu_looks_on_only(config: Any) -> None:
    """Another menu, or none learnt, changes neither what is passed on nor the gradient."""

    def step(menu: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        quantizer = Quantizer(config.model_copy(update={"menu": menu}), WIDTH)
        torch.manual_seed(1)
        out = quantizer(rows())
        (grad,) = torch.autograd.grad((out.vector * rows()[..., :4]).sum(), quantizer.project.weight)
        return out.vector, grad

    for few, many in zip(step(2), step(7), strict=True):
        assert torch.equal(few, many)


@pytest.mark.parametrize("config", [*DISCRETE, *CONTINUOUS])
def test_a_model_with_random_weights_is_calibrated_without_touching_its_codes(config: Any) -> None:
    torch.manual_seed(0)
    quantizer = Quantizer(config, WIDTH)
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    quantizer.calibrate()
    with torch.inference_mode():
        for step in range(20):
            quantizer(5 + rows(seed=step))
    quantizer.eval()
    changed = {
        name for name, tensor in quantizer.state_dict().items() if not torch.equal(before[name], tensor)
    }
    assert all(name.startswith(("standardize", "layer.menu")) for name in changed)
    assert quantizer(5 + rows()).index.unique().numel() > 2
