"""What two halves say of the same channels and connectors, as one.

A counter that both know is taken from the one that has written last. What one of them does not know is `None` there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from taktora_trio.transport.snapshot import Snapshot
from taktora_trio.vitals.model import ChannelKey, ChannelVitals, ConnectorVitals, HalfVitals, HealthChange, Page

__all__ = ["connectors_of", "history_of", "merged_channels"]

_AGES = ("age", "oldest")


def merged_channels(pages: Sequence[tuple[Page, Snapshot]], now: int) -> list[ChannelVitals]:
    """Return each channel once, in the order of the deployment as far as it is known.

    `pages` are in the order in which they were written; times are counted to `now`.
    """
    found: dict[ChannelKey, dict[str, object]] = {one.key: {} for one in _declared(pages)}
    for page, snapshot in pages:
        since = max(0.0, (now - snapshot.boottime_ns) / 1e9)
        for channel in page.channels:
            values = {name: value for name, value in msgspec.structs.asdict(channel).items() if value is not None}
            values |= {name: values[name] + since for name in _AGES if name in values}
            known = found.setdefault(channel.key, {})
            if channel.in_use == 0:
                known.pop("oldest", None)  # it was, when the other half had written
            known |= values
    return [msgspec.convert(values, ChannelVitals) for values in found.values()]


def _declared(pages: Sequence[tuple[Page, Snapshot]]) -> Sequence[ChannelVitals]:
    """Return the channels as the plugin has them, which has all."""
    return next((page.channels for page, _ in pages if page.name == "plugin"), [])


def connectors_of(pages: Sequence[Page], halves: Mapping[str, HalfVitals | None]) -> dict[str, ConnectorVitals]:
    """Return the health of each connector: as the plugin has it, which also knows of a gateway that has ended.

    Where the plugin does not run, it is as the gateway says, unless that does not run either. Where both are gone, each
    is `Down`, whatever they have said last.
    """
    found: dict[str, ConnectorVitals] = {}
    order = [one.name for page in pages if page.name == "plugin" for one in page.connectors]
    plugin = halves.get("plugin")
    plugin_knows = plugin is not None and plugin.state == "runs"
    for page in sorted(pages, key=lambda page: (page.name == "plugin") == plugin_knows):
        for connector in page.connectors:
            values = {**msgspec.structs.asdict(connector)}
            if (before := found.get(connector.name)) is not None:
                values["peer"] = connector.peer or before.peer
                values["reconnects"] = max(connector.reconnects, before.reconnects)
                values["since"] = connector.since if connector.health != before.health else before.since
                values["cause"] = connector.cause or (before.cause if connector.health == before.health else "")
            found[connector.name] = ConnectorVitals(**values)
    if pages and all(half is None or half.state == "gone" for half in halves.values()):
        since = time.time() - min(half.age or 0.0 for half in halves.values() if half is not None)
        found = {name: _left(connector, since) for name, connector in found.items()}
    return {name: found[name] for name in dict.fromkeys([*order, *found])}


def _left(connector: ConnectorVitals, since: float) -> ConnectorVitals:
    """Return a connector that nobody has any more; who had it has written last at `since`."""
    if connector.health == "Down":
        return connector
    reason = f"both halves are gone; it was {connector.health} before"
    return msgspec.structs.replace(connector, health="Down", since=since, reason=reason, cause="", next_attempt=None)


def history_of(pages: Sequence[Page]) -> list[HealthChange]:
    """Return the changes of health: the plugin's, which sees all, or else what there is."""
    sees_all = [page for page in pages if page.name == "plugin" and page.history]
    longest = max(sees_all or pages, key=lambda page: len(page.history), default=None)
    return [] if longest is None else [HealthChange(**msgspec.structs.asdict(change)) for change in longest.history]
