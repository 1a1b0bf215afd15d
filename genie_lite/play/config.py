"""Limits of a server: how many may play, for how long, and how much each may ask for."""

from pydantic import Field

from genie_lite.config import Config

MIB = 2**20


class PlayConfig(Config):
    """What a server allows. A limit that is reached is told to the player in one line; nobody else notices.

    sessions: games at a time, those whose player is gone for the moment among them. idle_s: after which a game
    without a move is given up, and a page that begins none is sent away. gone_s: after which a game whose player is
    gone makes room for a new one, if there is none. spare_sockets: pages that may be open beside one for each game.
    frames, branches: that one game keeps; a link may play as many frames. upload_bytes: of an image or a video.
    uploads: that are kept; the one longest unused makes room. message_bytes: of one message of a player.
    bad_messages: that follow each other, after which a player is sent away.
    hosts: names that this server is reached by, beside localhost, this machine's own and addresses in numbers.
    """

    sessions: int = Field(default=16, ge=1, le=4096)
    idle_s: float = Field(default=900.0, gt=0)
    gone_s: float = Field(default=60.0, ge=0)
    spare_sockets: int = Field(default=64, ge=1)
    frames: int = Field(default=20_000, ge=1)
    branches: int = Field(default=1_000, ge=1)
    upload_bytes: int = Field(default=32 * MIB, ge=1)
    uploads: int = Field(default=64, ge=1)
    message_bytes: int = Field(default=MIB, ge=1024)
    bad_messages: int = Field(default=8, ge=1)
    hosts: tuple[str, ...] = ()
