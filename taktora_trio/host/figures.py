"""What the app's half says of its channels and connectors: to the app now, and on its page once a second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from taktora_trio.connectors.figures import channel_figures
from taktora_trio.errors import ConfigError
from taktora_trio.host.writer import WriterStatistics
from taktora_trio.vitals.model import Channel, ChannelVitals, Connector, ConnectorVitals

if TYPE_CHECKING:
    from taktora_trio.channels import ChannelDescriptor
    from taktora_trio.connectors.base import Connector as Declared
    from taktora_trio.health import HealthBoard
    from taktora_trio.host.reader import ChannelReader
    from taktora_trio.host.writer import ChannelWriter
    from taktora_trio.transport.trunk import Trunk
    from taktora_trio.vitals.record import HealthRecord

__all__ = ["HostFigures", "HostStatistics"]


@attrs.frozen(kw_only=True)
class HostStatistics:
    """The figures of the app's half, exact and as they are now.

    What the gateway alone knows (its backlog, what it has on disk, what it has discarded) is `None` here: it is in
    `taktora_trio.vitals.read`.
    """

    connectors: dict[str, ConnectorVitals]
    """By name."""
    channels: list[ChannelVitals]
    """In the order of the deployment."""

    def channel(self, name: str, connector: str | None = None) -> ChannelVitals:
        """Return the figures of the channel of this name. Raises `ConfigError` for one that there is not, or that two
        connectors have where none is given."""
        found = [one for one in self.channels if one.name == name and connector in (None, one.connector)]
        if len(found) != 1:
            raise ConfigError(f"there {'is no channel' if not found else 'are several channels'} {name!r}")
        return found[0]


class HostFigures:
    """Collects the figures of a host."""

    def __init__(
        self,
        connectors: Sequence[Declared],
        trunks: Mapping[str, Trunk],
        board: HealthBoard,
        record: HealthRecord,
        ends: Mapping[int, ChannelReader[Any] | ChannelWriter[Any]],
    ) -> None:
        """`ends` are those that the app has open, by channel."""
        self.record = record
        self._declared = connectors
        self._trunks = trunks
        self._board = board
        self._ends = ends

    def connectors(self) -> list[Connector]:
        return [self.record.connector(connector.name, self._board) for connector in self._declared]

    def channels(self) -> Iterator[Channel]:
        for connector in self._declared:
            trunk = self._trunks[connector.name]
            for channel in connector.channels:
                yield channel_figures(connector, channel, trunk, **self._of_end(channel))

    def statistics(self) -> HostStatistics:
        """Return all of them, now."""
        return HostStatistics(
            connectors={one.name: msgspec.convert(_fields(one), ConnectorVitals) for one in self.connectors()},
            channels=[msgspec.convert(_fields(one), ChannelVitals) for one in self.channels()],
        )

    def _of_end(self, channel: ChannelDescriptor[Any]) -> dict[str, Any]:
        """Return what the app's end counts itself, where it is open."""
        end = self._ends.get(id(channel))
        if end is None:
            return {}
        counted = end.statistics()
        if isinstance(counted, WriterStatistics):
            return {"waited": counted.waited}
        return {"rejected": counted.rejected, "redelivered": counted.redelivered}


def _fields(of: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(of)
