"""What the page says beside its tables: whose colour is whose, and whom the policies imitate."""

from typing import Any

from genie_lite.evals.page import render


def interval(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "num": 12, "episodes": 100}


def page(**sections: Any) -> str:
    tree = {"name": "doors", "seconds": {}, "stages": {}, "hashes": {}} | sections
    return render(tree, None, {}, {})


def test_the_colours_of_a_table_of_arms_are_explained() -> None:
    html = page(policy={arm: interval(0.5) for arm in ("latent", "bc", "oracle")})
    for style, name in ((0, "ours"), (3, "rival, the same few labels"), (2, "ceiling, all labels")):
        assert f'<i class="swatch series-{style}"></i>{name}</span>' in html
    assert "</i>baseline" not in html, "no arm of this colour is there"


def test_a_rival_with_the_same_few_labels_is_no_ceiling() -> None:
    about = {"kind": "r2", "train_transitions": 9, "test_transitions": 9}
    arms = {"code": interval(0.5), "mean": interval(0.0), "supervised_few": interval(0.4)}
    html = page(probe=arms, probe_about=about)
    assert "</i>rival, the same few labels" in html
    assert "</i>baseline" in html
    assert "</i>ceiling" not in html


def test_the_page_says_whom_the_policies_imitate() -> None:
    policy = {"latent": interval(0.5)}
    some = page(policy=policy, policy_about={"demonstrations": "play_*<b>"})
    assert "match <code>play_*&lt;b&gt;</code> and no others" in some
    for html in (page(policy=policy), page(policy=policy, policy_about={"demonstrations": "*"})):
        assert "adapt.demonstrations" not in html
