"""FFmpeg's own filters, frame by frame."""

from collections.abc import Iterable, Iterator

import av
from av.error import BlockingIOError, EOFError
from av.filter import Graph


class Filter:
    """One filter of FFmpeg's, set up anew whenever the size or the format of the frames changes.

    name, arguments: as on its command line. It runs in one thread.
    """

    def __init__(self, name: str, arguments: str) -> None:
        self._name, self._arguments = name, arguments
        self._graph: Graph | None = None
        self._kind: tuple[object, ...] = ()

    def __call__(self, image: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Frames that come out when this one goes in; some filters hold one back."""
        kind = (image.width, image.height, image.format.name, image.time_base)
        if kind != self._kind:
            yield from self.rest()
            self._graph, self._kind = self._set_up(image), kind
        assert self._graph is not None
        self._graph.vpush(image)
        yield from _pulled(self._graph)

    def rest(self) -> Iterator[av.VideoFrame]:
        """Frames that were held back, at the end."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from _pulled(self._graph)
            self._graph = None

    def _set_up(self, image: av.VideoFrame) -> Graph:
        graph = Graph()
        source = graph.add_buffer(
            width=image.width, height=image.height, format=image.format, time_base=image.time_base
        )
        graph.link_nodes(
            source, graph.add(self._name, f"{self._arguments}:threads=1"), graph.add("buffersink")
        ).configure()
        return graph


def _pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):
            return


def deinterlaced(images: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """The same frames, those with two moments in them (odd and even rows) brought to the first of the two.

    Nothing is done before the first frame that the decoder calls interlaced, and nothing to frames that it
    calls progressive. One frame stays one frame: with two, the rate of a sample would depend on a flag.

    Source: FFmpeg's bwdif (a motion-adaptive filter after yadif and the BBC's weights).
    """
    bwdif: Filter | None = None
    for image in images:
        # The filter needs three columns and four rows.
        if bwdif is None and image.interlaced_frame and image.height >= 4 and image.width >= 3:
            bwdif = Filter("bwdif", "mode=send_frame:deint=interlaced")
        if bwdif is None:
            yield image
        else:
            yield from bwdif(image)
    if bwdif is not None:
        yield from bwdif.rest()
