"""Zenoh's routing: the key expression of a channel, and the quality of what is sent on it."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import attrs

from taktora_trio.channels import Routing
from taktora_trio.checks import flag, one_of, whole_number
from taktora_trio.connectors.connection import Guarantee
from taktora_trio.connectors.zenoh.session import CongestionControl, Priority, Quality, Reliability
from taktora_trio.errors import ConfigError

__all__ = ["ZenohRouting"]

_PRIORITIES = ("real-time", "interactive-high", "interactive-low", "data-high", "data", "data-low", "background")


@attrs.frozen
class ZenohRouting(Routing):
    """A key (`plant/7/setpoint`), or an expression of keys with `*` and `**`."""

    key: str
    acknowledged: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """If true, each message is a query, whose reply is the acknowledgement: it arrives at least once. If false, at most
    once."""
    latched: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """If true, whoever subscribes later gets the last message of each key."""
    priority: Priority = attrs.field(default="data", kw_only=True, validator=one_of(*_PRIORITIES))
    """What is sent first where more waits than a link takes."""
    congestion_control: CongestionControl = attrs.field(
        default="block", kw_only=True, validator=one_of("block", "drop")
    )
    """What happens where a link takes no more: messages wait, or are dropped."""
    reliability: Reliability = attrs.field(
        default="reliable", kw_only=True, validator=one_of("reliable", "best-effort")
    )
    """Whether a link that can lose messages may do so."""
    express: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """If true, a message does not wait for others to be sent with it."""
    recover: int = attrs.field(default=0, kw_only=True, validator=whole_number(0))
    """Outbound: the number of messages kept for subscribers that have missed some. Inbound: the number asked for."""
    liveliness: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """Inbound: the keys are those of liveliness tokens, whose messages are true (it is there) and false (it is gone).
    """

    @property
    def address(self) -> str:
        return self.key

    @property
    def is_pattern(self) -> bool:
        return "*" in self.key

    @property
    def guarantee(self) -> Guarantee:
        """How often a message arrives."""
        return "at least once" if self.acknowledged else "at most once"

    @cached_property
    def quality(self) -> Quality:
        """The quality of service of what is sent."""
        return Quality(self.priority, self.congestion_control, self.reliability, self.express)

    def check(self, direction: Literal["out", "in"]) -> None:
        if not isinstance(self.key, str) or not self.key:
            raise ConfigError(f"ZenohRouting: the key is {self.key!r}; it must be a text that is not empty")
