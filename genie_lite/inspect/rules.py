"""What every check asks, in words: one rule each, in the order of the report.

The remedies are those that the literature and this toolkit's own runs have found to work; see `docs` for sources.
"""

from dataclasses import dataclass
from typing import Literal

Group = Literal["use", "control", "leak", "structure", "actions"]
# at least, at most: of a threshold. above: of zero. not below: so little under zero is tolerated, though it is not
# above. told: no question.
Asks = Literal["at least", "at most", "above", "not below", "told"]


@dataclass(frozen=True)
class Rule:
    """A question and its answers.

    threshold: name in `Thresholds`, where the measurement brings none of its own. holds, fails: what either means.
    remedy: what to change. needs: checks whose failure explains a failure of this one. unasked: of what training may
    be asked for and need not, what to say of a model that was not and does not have it; nobody is the worse for it.
    """

    name: str
    group: Group
    title: str
    unit: str
    asks: Asks
    holds: str
    fails: str = ""
    remedy: str = ""
    threshold: str = ""
    needs: tuple[str, ...] = ()
    unasked: str = ""


COLLAPSE = (
    "The bottleneck has collapsed or is about to: restart unused codes through the whole "
    "run (code.restart_below), lower the weight of the commitment, or take the fsq "
    "bottleneck, which cannot collapse."
)
LEAK = (
    "The code carries the picture: make the bottleneck smaller (fewer codes or "
    "dimensions; vae with a larger beta), and augment the frames of the inverse model "
    "otherwise than those of the forward model."
)
IGNORED = (
    "The decoder does not read the code: let it see fewer past frames (past_window 1), "
    "inject the code into every block, weigh moving pixels more, train longer, or look "
    "for footage in which more happens."
)
OFF_BY_ONE = (
    "Check that frames and rows are paired as k \N{RIGHTWARDS ARROW} k + 1 wherever they are shifted, padded"
    " or resampled; if actions take effect late, as with inertia, choose pairs that lie "
    "further apart (pair_s)."
)
MORE_TO_SAY = (
    "Give the codes what they lack: some labels during training (200 are enough to "
    "matter), more codes or a wider embedding, pairs at the right distance in time."
)
RELATION = (
    "Raise lam.weights.{} (tenfold), train longer, or give the embedding more dimensions; if the footage cannot be "
    "like that, leave the loss out: it costs other things."
)
UNASKED = "{}; few models' do without being trained for it: give lam.weights.{} a weight if {} are needed."

RULES = (
    Rule(
        name="codes_used",
        group="use",
        title="Codes in use",
        unit="codes",
        asks="at least",
        holds="Enough of the alphabet is in use.",
        fails="Most of the alphabet is dead: the codes have collapsed.",
        remedy=COLLAPSE,
    ),
    Rule(
        name="perplexity",
        group="use",
        title="Perplexity",
        unit="codes",
        asks="at least",
        holds="The codes are used evenly enough to say something.",
        fails="One code, or hardly more, carries everything: the codes have collapsed.",
        remedy=COLLAPSE,
    ),
    Rule(
        name="top_code",
        group="use",
        title="Share of the commonest code",
        unit="share",
        asks="at most",
        holds="No code drowns the others.",
        fails="One code dominates.",
        remedy=(
            "If most pairs are still, drop them (ingest: min_motion) or choose pairs further "
            "apart. Otherwise the bottleneck is about to collapse: see the perplexity."
        ),
        threshold="top_code",
    ),
    Rule(
        name="active_units",
        group="use",
        title="Active units",
        unit="dimensions",
        asks="at least",
        holds="The continuous bottleneck is in use.",
        fails="The embedding hardly varies: the bottleneck has collapsed to its prior.",
        remedy="Lower beta, warm it up slowly, or widen the bottleneck.",
    ),
    Rule(
        name="menu_used",
        group="use",
        title="Centres of the menu in use",
        unit="centres",
        asks="at least",
        holds="The centres that stand for the embedding are spread over what occurs.",
        fails="Most transitions are nearest to a few centres: a world cannot be steered by the others.",
        remedy=(
            "A smaller menu (code.menu), or more even footage. Readers of the embedding are not concerned."
        ),
    ),
    Rule(
        name="still",
        group="use",
        title="Pairs in which nothing moves",
        unit="share",
        asks="at most",
        holds="Most pairs show something happen.",
        fails="In most pairs nothing moves: the codes learn to say so, and little else.",
        remedy=(
            "Drop still stretches when ingesting (min_motion, near duplicates), mind static ends "
            "of episodes, or choose pairs that lie further apart (pair_s)."
        ),
        threshold="still",
    ),
    Rule(
        name="moving_camera",
        group="use",
        title="Pairs in which most of the picture moves",
        unit="share",
        asks="told",
        holds=(
            "Where the camera moves by itself, codes describe the camera first; then stabilise "
            "the video, drop such shots, or give labels. Where the agent moves it, that is the "
            "action."
        ),
    ),
    Rule(
        name="row",
        group="control",
        title="The code of row k over those of its neighbours",
        unit="dB",
        asks="not below",
        holds="Row k describes frame k \N{RIGHTWARDS ARROW} k + 1.",
        fails="The rows are off by one.",
        remedy=OFF_BY_ONE,
        threshold="row_db",
    ),
    Rule(
        name="code_gap",
        group="control",
        title="Right codes over those of other transitions",
        unit="dB",
        asks="at least",
        holds="The decoder reads the code: wrong codes make the prediction worse.",
        fails="The decoder ignores the code: wrong codes are as good as right ones.",
        remedy=IGNORED,
        threshold="code_gap_db",
        needs=("row",),
    ),
    Rule(
        name="copy_gap",
        group="control",
        title="Prediction over a copy of the last frame",
        unit="dB",
        asks="above",
        holds="The model foretells the next frame better than a copy of the last one.",
        fails="A copy of the last frame is as good as the model's prediction.",
        remedy=(
            "Train longer, let the decoder foretell the change (predict: change), or choose pairs"
            " that lie further apart."
        ),
        needs=("row",),
    ),
    Rule(
        name="one_step",
        group="control",
        title="Right codes over random draws, one frame ahead",
        unit="dB",
        asks="at least",
        holds="Codes drawn at random steer the decoder elsewhere.",
        fails="Codes drawn at random do as well as the right ones.",
        remedy=IGNORED,
        threshold="code_gap_db",
        needs=("row",),
    ),
    Rule(
        name="control",
        group="control",
        title="\N{GREEK CAPITAL LETTER DELTA}tPSNR of the world, four frames ahead",
        unit="dB",
        asks="at least",
        holds="The world does what the codes say.",
        fails="The world follows its codes too little.",
        remedy=(
            "If the decoder reads the codes (above), train the dynamics model longer, or give it "
            "fewer past frames; else the latent action model comes first."
        ),
        threshold="control_db",
    ),
    Rule(
        name="frame",
        group="control",
        title="Prediction: distance to frame k + 1 under that to its neighbours",
        unit="dB",
        asks="not below",
        holds="The predicted frame is nearest to frame k + 1.",
        fails="The predicted frame is nearer to another frame than to frame k + 1.",
        remedy=(
            "If it is frame k, nothing is foretold: see the code gap. If it is frame k + 2, the "
            "pairs are off by one. "
        )
        + OFF_BY_ONE,
        threshold="row_db",
        needs=("copy_gap",),
    ),
    Rule(
        name="scene_cut",
        group="leak",
        title="Error across scene cuts over error within shots",
        unit="times",
        asks="at least",
        holds=("The code cannot describe a picture from another video, so it does not carry pictures."),
        fails=(
            "The code leaks the future: it describes frames from another video as well as the true next one."
        ),
        remedy=LEAK,
        threshold="scene_cut",
        needs=("copy_gap",),
    ),
    Rule(
        name="future_similarity",
        group="leak",
        title="S-PCFC: likeness of opposite motions with the same last frame",
        unit="cosine",
        asks="at most",
        holds="Opposite motions get different embeddings.",
        fails=(
            "The embedding depends on the last frame and not on what led there: it leaks the future, or describes"
            " the scene."
        ),
        remedy=LEAK,
        threshold="future_similarity",
    ),
    Rule(
        name="cycle",
        group="leak",
        title="What survives of a code carried to another video and back",
        unit="share",
        asks="at least",
        holds="Codes can be carried from one video to another.",
        fails="A code means something else in another video.",
        remedy=(
            "Smaller bottlenecks transfer better; so do augmentations that differ between inverse"
            " and forward model."
        ),
        threshold="cycle",
        needs=("code_gap",),
    ),
    Rule(
        name="cycle_ratio",
        group="leak",
        title="Error after that visit over error before",
        unit="times",
        asks="told",
        holds="1.03 to 1.34 in arXiv:2601.05230, where errors are large to begin with.",
    ),
    Rule(
        name="additivity",
        group="structure",
        title="Additivity: what is left of z(a, c) \N{MINUS SIGN} z(a, b) \N{MINUS SIGN} z(b, c)",
        unit="of |z|",
        asks="at most",
        holds="Two transitions add up to the one that spans both.",
        fails="Embeddings do not add up, though the model was trained to have them do so.",
        remedy=RELATION.format("additivity"),
        unasked=UNASKED.format("Embeddings do not add up", "additivity", "sums"),
    ),
    Rule(
        name="reversal",
        group="structure",
        title="Reversal: what is left of z(b, a) + z(a, b)",
        unit="of |z|",
        asks="at most",
        holds="The way back is minus the way there.",
        fails="The way back is not minus the way there, though the model was trained to have it so.",
        remedy=RELATION.format("reversal"),
        unasked=UNASKED.format("The way back is not minus the way there", "reversal", "directions"),
    ),
    Rule(
        name="effect",
        group="structure",
        title="Share of the foretold motion that the code decides",
        unit="share",
        asks="at least",
        holds="A code moves different pictures alike.",
        fails="What a code does depends on the picture.",
        remedy=(
            "More footage of the same things, fewer codes, or labels during training; a code that"
            " does nothing at all shows as a code gap near zero."
        ),
        threshold="effect",
        needs=("code_gap",),
    ),
    Rule(
        name="probe_code",
        group="actions",
        title="Action read from the code",
        unit="score",
        asks="above",
        holds="Codes tell true actions, better than guessing and than the untrained network's.",
        fails="Codes tell true actions no better than guessing, or than the untrained network's.",
        remedy=MORE_TO_SAY,
    ),
    Rule(
        name="probe_linear",
        group="actions",
        title="Action read from the embedding, linearly",
        unit="score",
        asks="above",
        holds="The embedding tells true actions to a linear reader.",
        fails="A linear reader finds no more in the embedding than in the untrained network's.",
        remedy=MORE_TO_SAY,
    ),
    Rule(
        name="probe_embedding",
        group="actions",
        title="Action read from the embedding, MLP(128, 128)",
        unit="score",
        asks="above",
        holds=("The embedding tells true actions, better than guessing and than the untrained network's."),
        fails="The embedding tells no more than guessing, or than the untrained network's.",
        remedy=MORE_TO_SAY,
    ),
    Rule(
        name="balanced_code",
        group="actions",
        title="Code, balanced accuracy",
        unit="score",
        asks="told",
        holds="Every action counts alike; always the commonest one gets one over their number.",
    ),
    Rule(
        name="balanced_embedding",
        group="actions",
        title="Embedding, balanced accuracy",
        unit="score",
        asks="told",
        holds="Every action counts alike; always the commonest one gets one over their number.",
    ),
    Rule(
        name="beyond_frame",
        group="actions",
        title="Embedding over a network that sees frame k alone",
        unit="score",
        asks="above",
        holds="The embedding says what was done, not just where.",
        fails="The scene alone tells as much: the embedding describes something else that moves.",
        remedy=(
            "Distractors or the camera have taken the code: give labels during training (by far "
            "the largest gain), weigh by masks or flow, or learn from frozen features instead of "
            "pixels."
        ),
    ),
    Rule(
        name="way",
        group="actions",
        title="Share of the way from guessing to a model trained with all labels, linearly",
        unit="share",
        asks="at least",
        holds="The embedding holds most of what this network could know about actions.",
        fails="The embedding holds too little of what this network could know about actions.",
        remedy=MORE_TO_SAY,
        threshold="way",
    ),
    Rule(
        name="shift",
        group="actions",
        title="Labels of the same row over those of its neighbours",
        unit="score",
        asks="not below",
        holds="Row k tells the action of row k.",
        fails="Codes and labels are off by one.",
        remedy=OFF_BY_ONE,
        threshold="shift",
    ),
    Rule(
        name="ami",
        group="actions",
        title="Agreement of codes and actions (AMI)",
        unit="0 to 1",
        asks="told",
        holds=(
            "1 if codes and actions are one to one, 0 by chance. Several codes for one action "
            "lower it, and do no harm."
        ),
    ),
    Rule(
        name="information_code",
        group="actions",
        title="Information about the action in the code",
        unit="bits",
        asks="above",
        holds="The code shares bits with the action that shuffled codes do not.",
        fails="The code shares no more bits with the action than shuffled codes do.",
        remedy=MORE_TO_SAY,
    ),
    Rule(
        name="information_embedding",
        group="actions",
        title="Information about the action in the embedding",
        unit="bits",
        asks="above",
        holds="The embedding shares bits with the action that shuffled ones do not.",
        fails="The embedding shares no more bits with the action than shuffled ones do.",
        remedy=MORE_TO_SAY,
    ),
)
