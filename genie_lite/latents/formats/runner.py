"""Episode after episode into a layout that is written anew from front to back, and the head of its manifest.

LAPA's and LARY's writers share it: what each makes of an episode, and what it tells of the whole, is theirs.
"""

from collections.abc import Callable
from typing import Any

from genie_lite.errors import UserError
from genie_lite.latents.formats.episodes import Episode, Episodes, LeftOut
from genie_lite.latents.formats.join import Aligned, Join
from genie_lite.latents.formats.labelled import NO_LATENT, Progress
from genie_lite.latents.formats.rows import Rows

WriteEpisode = Callable[[Episode, Aligned], LeftOut | None]


def write_episodes(
    episodes: Episodes, join: Join, write: WriteEpisode, progress: Progress | None
) -> list[LeftOut]:
    """Write every episode that has a valid latent action; returns those that are left out.

    Args:
        episodes: in order.
        join: to their latent actions.
        write: makes one of them, or says why it cannot.
        progress: called with (episodes done, episodes).

    Raises:
        UserError: none could be written.
    """
    left_out: list[LeftOut] = []
    num_written = 0
    for done, episode in enumerate(episodes.read(), start=1):
        found = episode if isinstance(episode, LeftOut) else _write(episode, join, write)
        if found is None:
            num_written += 1
        else:
            left_out.append(found)
        if progress is not None:
            progress(done, episodes.num)
    if not num_written:
        first = f"; the first left out, {left_out[0].name}: {left_out[0].reason}" if left_out else ""
        raise UserError(f"{join.rows.folder}: no valid latent action in {episodes.num} episodes{first}")
    return left_out


def _write(episode: Episode, join: Join, write: WriteEpisode) -> LeftOut | None:
    aligned = join.of(episode)
    return write(episode, aligned) if aligned.valid.any() else LeftOut(episode.name, NO_LATENT)


def head_of(episodes: Episodes, rows: Rows, left_out: list[LeftOut], about: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says of where its content is from, with what the layout tells of itself."""
    return {
        "source": episodes.name,
        "latents": {name: rows.manifest[name] for name in ("lam", "window", "num_codes", "num_tokens")},
        "quality": rows.manifest["quality"],
        **about,
        "left_out": [{"episode": each.name, "reason": each.reason} for each in left_out],
    }
