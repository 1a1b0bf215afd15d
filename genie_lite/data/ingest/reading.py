"""The results of all sources of an ingest, in order, from wherever each is to be had.

A source may be settled without reading it (a broken entry of a list, a copy of another file), have been read
ahead of its turn, or lie in a folder of results that another process has left; the engine reads the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from genie_lite.data.cutting.sandbox import Result
from genie_lite.data.ingest.engine import Engine
from genie_lite.data.ingest.spill import Spills
from genie_lite.data.sources.source import Source


@dataclass
class Reading:
    """Gives each source's result once; the consumer closes it.

    engine: reads what is not known. spills: results that other processes have left.
    """

    engine: Engine
    spills: Spills
    _ahead: dict[str, Result] = field(default_factory=dict)

    def results(self, sources: Sequence[Source]) -> Iterator[tuple[Source, Result]]:
        """Each source with what became of it, in the given order."""
        unknown = [source for source in sources if not self._is_known(source)]
        unread = {source.name for source in unknown}
        read = self.engine.read([source.place for source in unknown])
        for source in sources:
            yield source, _fitting(source, next(read) if source.name in unread else self._known(source))

    def is_usable(self, source: Source) -> bool:
        """Whether samples come of it; what was read for that is not read again."""
        if not self._is_known(source):
            self._ahead[source.name] = _fitting(source, next(iter(self.engine.read([source.place]))))
        if source.name in self._ahead:
            return bool(self._ahead[source.name].segments)
        result = _fitting(source, self._known(source))
        result.close()
        return bool(result.segments)

    def _is_known(self, source: Source) -> bool:
        return settled(source) is not None or source.name in self._ahead or source.name in self.spills

    def _known(self, source: Source) -> Result:
        return settled(source) or self._ahead.pop(source.name, None) or self.spills.get(source.name)


def settled(source: Source) -> Result | None:
    """What can be said of a source before it is read, if anything."""
    if source.fault is not None:
        return Result(source.fault)
    if source.twin is not None:
        return Result(None, complaint=f"duplicate of {source.twin}")
    return None


def _fitting(source: Source, result: Result) -> Result:
    """The result, or a fault in its place where the video does not belong to the source's labels."""
    fault = None if result.fault else source.misfit(result.figures.get("source_frames", 0))
    if fault is None:
        return result
    result.close()
    return Result(fault, figures=result.figures)
