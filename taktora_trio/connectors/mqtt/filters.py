"""The filters of a connector's channels: which to ask the broker for, and which it refuses. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, cast

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.connectors.mqtt.topics import FilterTree, minimal_filters, split_share
from taktora_trio.escaping import escaped

__all__ = ["ChannelFilters"]


class ChannelFilters:
    """Decides what to ask for, so that each channel gets its messages, and by one filter only.

    A filter that another one covers is not asked for, unless the broker refuses that one: a refusal takes down the
    channels of its filter and no others. Ask for what is `due` until nothing is.
    """

    def __init__(self, inbound: Iterable[ChannelDescriptor[Any]]) -> None:
        self._channels = defaultdict[str, list[str]](list)
        self._wanted: dict[str, int] = {}
        for channel in inbound:
            routing = cast(MqttRouting, channel.routing)
            self._channels[routing.subscription].append(channel.name)
            self._wanted[routing.subscription] = max(routing.qos, self._wanted.get(routing.subscription, 0))
        self._granted: dict[str, int] = {}
        self._covered = FilterTree[str]()  # by what is granted and not shared
        self._refused: dict[str, str] = {}  # with the broker's reason

    def forget(self) -> None:
        """Everything is due: the broker has forgotten all."""
        self._granted.clear()
        self._covered = FilterTree()
        self._refused.clear()

    def again(self) -> None:
        """Make due once more what was refused."""
        self._refused.clear()

    @property
    def due(self) -> dict[str, int]:
        """The filters to ask for now, with their QoS."""
        hopeful = {name: qos for name, qos in self._wanted.items() if name not in self._refused}
        return {name: qos for name, qos in minimal_filters(hopeful).items() if not self._is_granted(name)}

    def answered(self, asked: Mapping[str, int], refused: Mapping[str, str]) -> None:
        """Take the broker's answer: the filters that it was asked for, and those it refused, with its reasons."""
        self._refused.update(refused)
        for name, qos in asked.items():
            if name not in refused:
                self._granted[name] = qos
                if not split_share(name)[0]:
                    self._covered.add(name, name)

    @property
    def in_use(self) -> set[str]:
        """The filters that are granted and needed: not those that another one has come to cover."""
        return set(minimal_filters(self._granted))

    @property
    def refused(self) -> set[str]:
        """The filters that the broker has refused."""
        return set(self._refused)

    @property
    def complaints(self) -> list[str]:
        """A line for each channel that gets nothing, with the reason."""
        return [
            f"channel {channel}: the broker refuses the subscription to '{escaped(name)}' ({reason})"
            for name, reason in self._refused.items()
            if not self._is_granted(name)
            for channel in self._channels[name]
        ]

    def _is_granted(self, name: str) -> bool:
        return name in self._granted or (not split_share(name)[0] and bool(self._covered.covering(name)))
