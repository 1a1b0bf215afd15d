"""Several corpora, several ranks, several loading processes: every window once, and each corpus its share."""

from collections import Counter
from fractions import Fraction
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_lite.data.loading.loader import Loader, LoaderConfig, Packets, train_loader
from genie_lite.data.loading.mixture import Corpora, Corpus, Mixture, apportion, mix
from genie_lite.data.loading.token_windows import TokenWindows, token_loader
from genie_lite.data.loading.windows import Share, Windows
from genie_lite.errors import UserError
from tests.flat import Numbers, flat_tokens, flat_video

WEIGHTS = st.lists(st.sampled_from([0.001, 0.1, 0.3, 1.0, 1 / 3, 2.5, 40.0]), min_size=1, max_size=4)
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.booleans())  # ranks, batch, interleaved


def shares_of(weights: list[float]) -> list[Fraction]:
    exact = [Fraction(repr(weight)) for weight in weights]
    return [weight / sum(exact) for weight in exact]


def mixture(weights: list[float], seed: int = 0) -> Mixture:
    return Mixture([Numbers(str(k)) for k in range(len(weights))], shares_of(weights), seed)


def sequence(weights: list[float], seed: int = 0) -> Windows:
    return mixture(weights, seed) if len(weights) > 1 else Numbers("0")


def handed_out(
    windows: Windows, share: Share, position: int, num_workers: int, num_batches: int
) -> list[list[Any]]:
    """A rank's batches in the order in which a DataLoader takes them from its processes."""
    packets = Packets(windows, share, position, list)
    workers = [packets.made_by(worker, num_workers) for worker in range(num_workers)]
    return [next(workers[batch % num_workers]).content for batch in range(num_batches)]


def together(
    windows: Windows, shape: tuple[int, int, bool], position: int, num_workers: int, num_batches: int
) -> list[Any]:
    """What all ranks see, batch after batch."""
    world_size, batch, interleaved = shape
    ranks = [
        handed_out(windows, Share(batch, rank, world_size, interleaved), position, num_workers, num_batches)
        for rank in range(world_size)
    ]
    return [window for batches in zip(*ranks, strict=True) for batch in batches for window in batch]


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.integers(0, 3), st.integers(1, 900))
def test_every_corpus_gives_its_share_without_a_gap(weights, seed, num) -> None:
    windows = sequence(weights, seed)
    seen = windows.read(range(num))
    for corpus, share in enumerate(shares_of(weights)):
        numbers = sorted(number for name, number in seen if name == str(corpus))
        assert len(numbers) == len(set(numbers))
        blocks = num // getattr(windows, "block", 1) * getattr(windows, "block", 1)
        whole = [number for name, number in seen[:blocks] if name == str(corpus)]
        assert sorted(whole) == list(range(len(whole)))
        assert abs(len(whole) - share * blocks) < 1


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=5), st.integers(0, 10**15))
def test_the_shares_stay_exact_however_long_it_goes_on(weights, block) -> None:
    windows = mixture([float(weight) for weight in weights])
    number = block * windows.block
    given_before, given_after = windows.given(number), windows.given(number + windows.block)
    assert sum(given_before) == number
    assert all(after >= before for before, after in zip(given_before, given_after, strict=True))
    for count, weight in zip(given_before, weights, strict=True):
        assert abs(count - Fraction(weight, sum(weights)) * number) < 1


def test_blocks_are_shuffled_by_the_seed() -> None:
    first, second, other = (
        [name for name, _ in mixture([1.0, 1.0], seed).read(range(512))] for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other
    assert first[:256] != first[256:]
    assert Counter(first[:256]) == {"0": 128, "1": 128}


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, SHAPES, st.integers(1, 4), st.integers(1, 40))
def test_ranks_and_processes_see_every_window_once(weights, shape, num_workers, num_batches) -> None:
    windows = sequence(weights)
    seen = together(windows, shape, 0, num_workers, num_batches)
    expected = windows.read(range(num_batches * shape[0] * shape[1]))
    assert sorted(seen) == sorted(expected)


@settings(max_examples=80, deadline=None)
@given(WEIGHTS, SHAPES, SHAPES, st.integers(1, 3), st.integers(1, 3), st.integers(0, 30), st.integers(1, 20))
def test_any_position_resumes_with_any_ranks_and_processes(
    weights, before, after, workers_before, workers_after, done, more
) -> None:
    """No window is lost, and none comes twice: what is seen is a beginning of the one sequence."""
    windows = sequence(weights)
    seen = together(windows, before, 0, workers_before, done)
    seen += together(windows, after, len(seen), workers_after, more)
    assert sorted(seen) == sorted(windows.read(range(len(seen))))


@settings(max_examples=40, deadline=None)
@given(WEIGHTS, st.integers(0, 30), st.sampled_from([(1, 6), (2, 3), (3, 2), (6, 1)]), st.booleans())
def test_a_joint_batch_is_the_same_windows_for_any_number_of_ranks(
    weights, position, shape, interleaved
) -> None:
    world_size, batch = shape
    windows = sequence(weights)
    alone = handed_out(windows, Share(6), position, 1, 5)
    ranks = [
        handed_out(windows, Share(batch, rank, world_size, interleaved), position, 2, 5)
        for rank in range(world_size)
    ]
    for number, expected in enumerate(alone):
        parts = [batches[number] for batches in ranks]
        rows = zip(*parts, strict=True) if interleaved else parts
        assert [window for row in rows for window in row] == expected


LENGTHS = st.lists(
    st.lists(st.integers(4, 20), min_size=1, max_size=4), min_size=1, max_size=4
)  # every sample has a window of 4


@settings(max_examples=12, deadline=None)
@given(st.lists(LENGTHS, min_size=2, max_size=3), SHAPES)
def test_an_epoch_of_each_corpus_is_seen_once_whatever_is_mixed_in(corpora, shape) -> None:
    """Exactly once per epoch, over ranks, loading processes and corpora, of real windows of tokens."""
    weights = [1.0, 2.0, 0.5][: len(corpora)]
    tokens = [flat_tokens(lengths, f"corpus{k}") for k, lengths in enumerate(corpora)]
    parts = [TokenWindows(each, 4, 0, "train") for each in tokens]
    given_corpora = Corpora(tuple(map(Corpus, tokens, weights)))
    windows = mix(parts, given_corpora, 0)
    assert isinstance(windows, Mixture)
    num_batches = 1 + 520 // (shape[0] * shape[1])
    whole = num_batches * shape[0] * shape[1] // windows.block * windows.block
    seen = together(Tagged(windows), shape, 0, 2, num_batches)
    by_number = [window for number, window in sorted(seen, key=lambda pair: pair[0]) if number < whole]
    for corpus, part in enumerate(parts):
        own = [int(w.tokens[0]) for n, w in enumerate(by_number) if windows.place(n).corpus == corpus]
        epochs = [own[first : first + len(part)] for first in range(0, len(own), len(part))]
        for epoch in epochs:
            assert len(set(epoch)) == len(epoch)
        for epoch in epochs[:-1]:
            assert sorted(epoch) == sorted(epochs[0])


class Tagged:
    """Windows with their numbers."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def identity(self) -> dict[str, Any]:
        return self._windows.identity()

    def read(self, numbers):
        return list(zip(numbers, self._windows.read(numbers), strict=True))

    def take_damage(self) -> list[Any]:
        return []


@given(st.integers(0, 200), st.lists(st.integers(1, 100), min_size=1, max_size=6))
def test_what_is_held_out_is_in_proportion(total, weights) -> None:
    shares = [Fraction(weight, sum(weights)) for weight in weights]
    counts = apportion(total, shares)
    assert sum(counts) == total
    if total >= len(weights):
        assert min(counts) >= 1
    if min(total * share for share in shares) >= 1:
        assert all(abs(count - total * share) < 1 for count, share in zip(counts, shares, strict=True))


def test_clips_of_two_corpora_come_by_weight() -> None:
    games, robots = flat_video([[20, 20], [30]], "games"), flat_video([[40], [12]], "robots")
    corpora = Corpora((Corpus(games, 3.0), Corpus(robots, 1.0)))
    loader = train_loader(corpora, LoaderConfig(clip_frames=4, batch=8), 0)
    seen = Counter(key.partition("-")[0] for clip in islice(loader, 64) for key in clip.key)
    assert seen == {"games": 384, "robots": 128}


def test_tokens_of_two_corpora_come_by_weight() -> None:
    games, robots = flat_tokens([[20, 20], [30]], "games"), flat_tokens([[40] * 4], "robots", first=1000)
    loader = token_loader(Corpora((Corpus(games, 1.0), Corpus(robots, 3.0))), 4, 8, 0)
    seen = Counter(first >= 1000 for clip in islice(loader, 64) for first in clip.tokens[:, 0, 0].tolist())
    assert seen == {False: 128, True: 384}


def test_a_state_names_every_corpus_and_its_share() -> None:
    video = [flat_video([[20]], name) for name in ("a", "b")]

    def loader(*weights: float) -> Loader:
        return train_loader(Corpora(tuple(map(Corpus, video, weights))), LoaderConfig(clip_frames=4), 0)

    state = loader(1.0, 3.0).state_dict()
    loader(2.0, 6.0).load_state_dict(state)  # the same shares
    with pytest.raises(UserError, match=r"other data: corpora\.0\.share=1/4, now it is 1/3"):
        loader(1.0, 2.0).load_state_dict(state)
    with pytest.raises(UserError, match="other data"):
        train_loader(video[0], LoaderConfig(clip_frames=4), 0).load_state_dict(state)


def test_one_corpus_is_as_if_it_were_alone() -> None:
    video = flat_video([[20, 20], [30]])
    loaders = [train_loader(each, LoaderConfig(clip_frames=4), 0) for each in (video, Corpora.of(video))]
    first, second = ([(c.key, c.start) for c in islice(loader, 9)] for loader in loaders)
    assert first == second
    assert loaders[0].state_dict() == loaders[1].state_dict()
    assert Corpora.of(video).fingerprint == video.fingerprint


def test_corpora_must_agree_in_what_a_frame_is() -> None:
    one, two = flat_video([[20]], "one"), flat_video([[20]], "two")
    other = type(two)(two.folder, two.config | {"size_px": 2}, two.fingerprint, two.shards)
    message = r"two: frames \(height, width\) of \(2, 2\) pixels, but one has .* \(1, 1\) pixels"
    with pytest.raises(UserError, match=message):
        Corpora((Corpus(one), Corpus(other)))


def test_corpora_of_two_rates_are_told_apart_where_it_matters() -> None:
    corpora = Corpora((Corpus(flat_video([[20]], "one")), Corpus(flat_video([[20]], "two", rate_hz=5.0))))
    with pytest.raises(
        UserError, match=r"two: 5 frames per second, but one has 10 frames per second; ingest both"
    ):
        corpora.expect_one_rate()
    Corpora.of(flat_video([[20]])).expect_one_rate()


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(UserError, match="expected a number above 0"):
        Corpora((Corpus(flat_video([[20]]), weight),))
    with pytest.raises(UserError, match="no corpus"):
        Corpora(())


def test_a_weight_that_is_next_to_nothing_is_refused() -> None:
    """A block holds a window of each corpus: at 1e-9 it would take gigabytes."""
    one, two = flat_video([[20]], "one"), flat_video([[20]], "two")
    with pytest.raises(
        UserError, match=r"^two: weight 1e-09 is 1e-09 of all .* 0\.0001; raise it.*leave .* out$"
    ):
        Corpora((Corpus(one, 1.0), Corpus(two, 1e-9)))
    least = Corpora((Corpus(one, 9999.0), Corpus(two, 1.0)))
    assert Mixture([Numbers("one"), Numbers("two")], least.shares, 0).block == 10_000


def test_the_fingerprint_of_corpora_follows_contents_and_shares() -> None:
    one, two = flat_video([[20]], "one"), flat_video([[20]], "two")
    orders = ((one, two, 1.0, 1.0), (two, one, 1.0, 1.0), (one, two, 1.0, 2.0), (one, two, 2.0, 2.0))
    prints = {Corpora((Corpus(a, u), Corpus(b, v))).fingerprint for a, b, u, v in orders}
    assert len(prints) == 3
