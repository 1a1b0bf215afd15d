"""Windows whose frames are a range of seconds apart, over any rate: every stride its share, nothing lost on resume."""

import logging
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from genie_lite.data.loading.clip import Clip, Window
from genie_lite.data.loading.clip_windows import ClipWindows
from genie_lite.data.loading.loader import LoaderConfig, train_loader, validation_clips
from genie_lite.data.loading.mixture import Corpora, Corpus, mix
from genie_lite.data.loading.token_windows import token_loader, validation_tokens
from genie_lite.data.loading.windows import Share
from genie_lite.errors import UserError
from tests.flat import flat_tokens, flat_video

LENGTHS = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=5), min_size=1, max_size=5).filter(
    lambda shards: max(max(shard) for shard in shards) >= 20
)
RATES = st.sampled_from([5.0, 10.0, 15.0, 24.0, 29.97, 30.0])
RANGES = st.sampled_from([(0.2, 0.2), (0.1, 0.5), (0.2, 0.4), (0.05, 1.0), (0.19, 0.21)])


def config_of(pair_s: tuple[float, float], clip_frames: int = 3, **rest: Any) -> LoaderConfig:
    return LoaderConfig(clip_frames=clip_frames, pair_s=pair_s, **rest)


def stride_of(window: Window) -> int:
    """By the values of its pixels, which are their places in the sample."""
    (stride,) = set(np.diff(window.pixels[:, 0, 0, 0].astype(int)).tolist())
    return stride


def where(windows: list[Window]) -> list[tuple[str, int, int]]:
    return [(window.key, window.start, stride_of(window)) for window in windows]


@given(
    rate=st.fractions(1, 240, max_denominator=1001),
    tenths=st.lists(st.integers(1, 40), min_size=2, max_size=2).map(sorted),
)
def test_the_strides_are_all_whole_ones_in_the_range(rate: Fraction, tenths: list[int]) -> None:
    least, most = Fraction(tenths[0], 10), Fraction(tenths[1], 10)
    exact = [stride for stride in range(1, 1000) if least <= stride / rate <= most]
    found = config_of((tenths[0] / 10, tenths[1] / 10)).strides(float(rate))
    assert list(found) == exact


def test_without_a_range_there_is_the_one_stride() -> None:
    assert LoaderConfig(stride=3).strides(10.0) == range(3, 4)


@settings(max_examples=30, deadline=None)
@given(LENGTHS, RATES, RANGES, st.integers(0, 5))
def test_windows_of_all_strides_stay_in_their_sample(lengths, rate, pair_s, seed) -> None:
    config = config_of(pair_s)
    lengths_of = {f"train-{k}-{i}": n for k, each in enumerate(lengths) for i, n in enumerate(each)}
    if not (strides := config.strides(rate)):
        return
    for window in ClipWindows(flat_video(lengths, rate_hz=rate), config, seed, "train").read(range(40)):
        stride = stride_of(window)
        assert stride in strides
        assert window.dt_s == pytest.approx(stride / rate)
        assert pair_s[0] * 0.999 <= window.dt_s <= pair_s[1] * 1.001
        assert 0 <= window.start <= window.start + 2 * stride < lengths_of[window.key]
        assert window.frame_index == [10 * (window.start + k * stride) for k in range(3)]


@settings(max_examples=15, deadline=None)
@given(LENGTHS, st.lists(st.integers(0, 100), max_size=10))
def test_a_window_is_a_function_of_its_number(lengths, numbers) -> None:
    def windows() -> ClipWindows:
        return ClipWindows(flat_video(lengths), config_of((0.1, 0.5)), 3, "train")

    in_order = where(windows().read(range(101)))
    assert where(windows().read(numbers)) == [in_order[number] for number in numbers]


@pytest.mark.parametrize("length", [100, 41])
def test_every_stride_is_drawn_equally_often(length: int) -> None:
    windows = ClipWindows(flat_video([[length] * 6] * 3), config_of((0.1, 1.0), 5), 0, "train")
    read = windows.read(range(4000))
    strides = [stride_of(window) for window in read]
    counts = Counter(strides)
    assert sorted(counts) == list(range(1, 11))
    assert all(abs(count - 400) < 100 for count in counts.values())  # five standard deviations
    first, second = strides[: windows.per_epoch], strides[windows.per_epoch : 2 * windows.per_epoch]
    assert first != second  # drawn anew
    starts = Counter((stride, window.start % 2) for stride, window in zip(strides, read, strict=True))
    if length == 100:  # with an even number of places for each stride, one draw for both would show
        assert min(starts[stride, odd] for stride in range(1, 11) for odd in (0, 1)) > 120


@settings(max_examples=20, deadline=None)
@given(LENGTHS, st.integers(2, 4))
def test_an_epoch_goes_over_as_many_frames_as_there_are(lengths, clip_frames) -> None:
    """Each sample gives as many windows as of their mean span lie side by side in it, at least one if any fits."""
    config = config_of((0.1, 0.5), clip_frames)
    windows = ClipWindows(flat_video(lengths), config, 0, "train")
    expected = {}
    for shard, each in enumerate(lengths):
        for k, length in enumerate(each):
            spans = [span for span in map(config.span_of, range(1, 6)) if span <= length]
            if spans:
                expected[f"train-{shard}-{k}"] = int(length / Fraction(sum(spans), len(spans)))
    assert min(expected.values()) >= 1
    for epoch in range(2):
        first = epoch * windows.per_epoch
        drawn = windows.read(range(first, first + windows.per_epoch))
        assert Counter(window.key for window in drawn) == expected


def test_a_short_shot_gives_windows_of_the_strides_that_fit() -> None:
    windows = ClipWindows(flat_video([[7, 60]]), config_of((0.1, 1.0)), 0, "train")
    seen = {key: set() for key in ("train-0-0", "train-0-1")}
    for window in windows.read(range(600)):
        seen[window.key].add(stride_of(window))
    assert seen == {"train-0-0": {1, 2, 3}, "train-0-1": set(range(1, 11))}


def test_strides_that_fit_no_shot_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        windows = ClipWindows(flat_video([[7]]), config_of((0.1, 1.0)), 0, "train")
    assert (
        "no shot of split 'train' is long enough for 3 frames more than 0.3 s apart; the longest has 7"
        in (caplog.text)
    )
    assert {stride_of(window) for window in windows.read(range(60))} == {1, 2, 3}


def test_a_range_without_an_end_takes_all_that_fits() -> None:
    windows = ClipWindows(flat_video([[9]]), config_of((1e-9, 1e300)), 0, "train")
    assert {stride_of(window) for window in windows.read(range(90))} == {1, 2, 3, 4}


def test_a_range_of_one_stride_draws_as_that_stride_does() -> None:
    lengths = [[30, 5, 9], [17], [8, 8, 64]]
    fixed = ClipWindows(flat_video(lengths), LoaderConfig(clip_frames=3, stride=2), 1, "train")
    ranged = ClipWindows(flat_video(lengths), config_of((0.2, 0.25)), 1, "train")
    assert where(ranged.read(range(50))) == where(fixed.read(range(50)))


MIXED = (
    (flat_video([[50, 9, 30]] * 2, "slow", rate_hz=5.0), 1.0),
    (flat_video([[200]], "fast", rate_hz=30.0), 3.0),
)


def mixed() -> Corpora:
    return Corpora(tuple(Corpus(shards, weight) for shards, weight in MIXED))


def test_corpora_of_two_rates_are_mixed_by_time() -> None:
    loader = train_loader(mixed(), config_of((0.2, 0.6), batch=8), 0)
    strides: dict[str, set[int]] = {"slow": set(), "fast": set()}
    seconds: Counter[str] = Counter()
    for clip in islice(loader, 128):
        for row, key in enumerate(clip.key):
            name = key.partition("-")[0]
            first, second = clip.frame_index[row][:2]
            strides[name].add((second - first) // 10)
            assert clip.dt_s[row] == pytest.approx((second - first) / 10 / {"slow": 5, "fast": 30}[name])
            seconds[name] += 1
    assert strides == {"slow": {1, 2, 3}, "fast": set(range(6, 19))}
    assert seconds == {"slow": 256, "fast": 768}


def test_corpora_of_two_rates_are_refused_where_frames_count() -> None:
    tokens = flat_tokens([[20]], "one"), flat_tokens([[20]], "two")
    files = tokens[1].files
    slow = type(files)(files.folder, files.config | {"rate_hz": 5.0}, files.fingerprint, files.shards)
    of_tokens = Corpora((Corpus(tokens[0]), Corpus(type(tokens[1])(slow, tokens[1].origin))))
    asked: list[Callable[[], object]] = [
        lambda: train_loader(mixed(), LoaderConfig(clip_frames=3), 0),
        lambda: validation_clips(mixed(), "train", 3, 4),
        lambda: token_loader(of_tokens, 4, 2, 0),
        lambda: validation_tokens(of_tokens, 4, 2, "train"),
    ]
    for ask in asked:
        with pytest.raises(UserError, match="frames per second, but"):
            ask()


def test_a_range_without_a_stride_is_a_clear_error() -> None:
    message = (
        r"slow: pair_s 0\.1 to 0\.15 s: at 5 frames per second frames are 0\.2 s apart; choose a range that holds a "
        r"multiple of that, such as one up to 0\.2 s"
    )
    for ask in (
        lambda: train_loader(mixed(), config_of((0.1, 0.15)), 0),
        lambda: validation_clips(mixed(), "train", 3, 4, pair_s=(0.1, 0.15)),
    ):
        with pytest.raises(UserError, match=message):
            ask()
    with pytest.raises(
        UserError, match=r"has no shot of 61 frames \(clip_frames 3, stride 30\), the longest has 7"
    ):
        train_loader(flat_video([[7]], rate_hz=30.0), config_of((1.0, 2.0)), 0)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"pair_s": (0.0, 1.0)}, "expected seconds above 0, the smaller first"),
        ({"pair_s": (0.5, 0.2)}, "pair_s 0.5 to 0.2: expected seconds above 0, the smaller first"),
        ({"pair_s": (0.1, 0.2), "stride": 2}, "stride 2 and pair_s both say how far frames are apart"),
        ({"weight": {"kind": "flow"}, "clip_frames": 1}, "expected clip_frames of at least 2"),
        ({"pair_s": (0.1, 0.2), "clip_frames": 1}, "expected clip_frames of at least 2"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LoaderConfig.model_validate(settings_)


def taken(
    config: LoaderConfig, shape: tuple[int, int], num: int, state: dict[str, Any] | None
) -> tuple[list, dict]:
    """Windows of so many joint batches, of all ranks, and the position then."""
    world_size, batch = shape
    loaders = [
        train_loader(mixed(), config.model_copy(update={"batch": batch}), 5, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for loader in loaders:
        if state is not None:
            loader.load_state_dict(state)
    batches = zip(*[list(islice(loader, num)) for loader in loaders], strict=True)
    return [row for joint in batches for clip in joint for row in rows_of(clip)], loaders[0].state_dict()


def rows_of(clip: Clip) -> list[tuple[str, int, tuple[int, ...], float]]:
    rows = zip(clip.key, clip.start, clip.frame_index, clip.dt_s, strict=True)
    return [(key, start, tuple(frames), dt_s) for key, start, frames, dt_s in rows]


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4))


@settings(max_examples=20, deadline=None)
@given(SHAPES, SHAPES, st.integers(0, 9), st.integers(1, 6))
def test_a_position_resumes_with_any_ranks(before, after, done, more) -> None:
    config = config_of((0.2, 0.6))
    first, state = taken(config, before, done, None)
    second, state = taken(config, after, more, state)
    corpora = mixed()
    whole = mix([ClipWindows(each.shards, config, 5, "train") for each in corpora.parts], corpora, 5)
    expected = whole.read(Share(len(first + second)).numbers(0))
    assert state["windows"] == len(expected)
    assert first + second == [(w.key, w.start, tuple(w.frame_index), w.dt_s) for w in expected]


def test_the_range_is_part_of_a_position_and_its_absence_is_as_before() -> None:
    video = flat_video([[40]])
    plain = train_loader(video, LoaderConfig(clip_frames=3), 0)
    assert plain.state_dict()["of"].keys() == {
        "fingerprint", "split", "seed", "clip_frames", "stride", "shuffle_shards",
    }  # fmt: skip
    ranged = train_loader(video, config_of((0.1, 0.2)), 0).state_dict()
    train_loader(video, config_of((0.1, 0.2)), 0).load_state_dict(ranged)
    with pytest.raises(UserError, match=r"other data: pair_s=\[0\.1, 0\.2\], now it is \[0\.1, 0\.3\]"):
        train_loader(video, config_of((0.1, 0.3)), 0).load_state_dict(ranged)
    with pytest.raises(UserError, match="other data: pair_s=None"):
        train_loader(video, config_of((0.1, 0.2)), 0).load_state_dict(plain.state_dict())


def held_out(lengths: list[list[int]], limit: int, pair_s: tuple[float, float]) -> list[Clip]:
    return validation_clips(flat_video(lengths), "train", 3, limit, pair_s=pair_s)


@pytest.mark.parametrize("lengths", [[[40] * 10] * 3, [[160, 160]], [[40]] * 20])
def test_held_out_clips_are_of_all_strides(lengths: list[list[int]]) -> None:
    """With many sources and with few; a source is a sample here."""
    clips = held_out(lengths, 20, (0.1, 0.5))
    counts = Counter(round(10 * clip.dt_s[0]) for clip in clips)
    assert counts == dict.fromkeys(range(1, 6), 4)
    assert [rows_of(clip) for clip in clips] == [rows_of(clip) for clip in held_out(lengths, 20, (0.1, 0.5))]


@settings(max_examples=20, deadline=None)
@given(LENGTHS, st.integers(1, 60))
def test_held_out_clips_of_several_strides_do_not_overlap(lengths, limit) -> None:
    clips = held_out(lengths, limit, (0.1, 0.5))
    assert 1 <= len(clips) <= limit
    spans: dict[str, list[tuple[int, int]]] = {}
    for clip in clips:
        spans.setdefault(clip.key[0], []).append(
            (clip.frame_index[0][0] // 10, clip.frame_index[0][-1] // 10)
        )
    for key, each in spans.items():
        shard, sample = map(int, key.removeprefix("train-").split("-"))
        assert all(end < begin for (_, end), (begin, _) in pairwise(sorted(each)))
        assert max(end for _, end in each) < lengths[shard][sample]
