"""Outbound QoS 1 and 2: the answer that each message waits for, and what any other answer means. Sans-I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable

from taktora_trio.connectors.mqtt.wire.message import OnDone
from taktora_trio.connectors.mqtt.wire.packets import Malformed, pack_u16
from taktora_trio.connectors.mqtt.wire.reasons import reason_name
from taktora_trio.connectors.mqtt.wire.state import SessionState

__all__ = ["Exchanges"]

log = logging.getLogger(__name__)


class Exchanges:
    """The exchanges of one connection (section 4.3). It calls `send` with each PUBREL.

    An answer ends a step of an exchange, or breaks the rules and raises `Malformed` (section 4.13). If a wrong answer
    were ignored, its message might wait for ever, and nobody would know why.
    """

    def __init__(self, state: SessionState, send: Callable[[bytes], None]) -> None:
        self._state = state
        self._send = send
        self.quota = 65_535
        """The number of exchanges that may be begun before one of those under way has ended (MQTT 5, section 4.9)."""
        self.acks: dict[int, OnDone] = {}
        """QoS 1: these wait for PUBACK."""
        self.recs: dict[int, OnDone] = {}
        """QoS 2: these wait for PUBREC."""
        self._comps: dict[int, OnDone] = {}  # QoS 2: these wait for PUBCOMP
        self._strays: dict[int, OnDone] = {}  # PUBREL was sent for these, and no message waits for their PUBCOMP
        self._lowers_qos = False  # the broker has acknowledged QoS 2 as QoS 1

    @property
    def count(self) -> int:
        """The number of messages that wait for an answer."""
        return len(self.acks) + len(self.recs) + len(self._comps)

    def resume(self, packet_id: int, on_done: OnDone) -> bool:
        """Go on with a message of QoS 2 that the broker already has. Return false, and do nothing, if it has not."""
        if packet_id not in self._state.released:
            return False
        self.quota -= 1
        self._comps[packet_id] = on_done
        self._send(b"\x62\x02" + pack_u16(packet_id))
        return True

    def release(self, packet_id: int, on_done: OnDone) -> None:
        """Complete an exchange that the broker may still hold under this identifier, of an earlier gateway."""
        under_way = packet_id in self._strays
        self._strays[packet_id] = on_done
        self._state.released.discard(packet_id)
        if not under_way:
            self._send(b"\x62\x02" + pack_u16(packet_id))

    def puback(self, packet_id: int, code: int = 0) -> None:
        on_done = self.acks.pop(packet_id, None)
        if on_done is None:
            # RabbitMQ before 4 takes a message of QoS 2 and acknowledges it so. To end the connection would not change
            # that, and the message would be published again with each new one.
            on_done = self.recs.pop(packet_id, None)
            if on_done is None:
                raise Malformed(f"a PUBACK for {packet_id}, of which none was to come")
            if not self._lowers_qos:
                self._lowers_qos = True
                log.warning(
                    "the broker acknowledges messages of QoS 2 by PUBACK, as if they were of QoS 1: they count as"
                    " published, and may come twice after a lost connection",
                    extra={"event": "qos2-as-qos1"},
                )
        self._finish(on_done, packet_id, code)

    def pubrec(self, packet_id: int, code: int) -> None:
        on_done = self.recs.pop(packet_id, None)
        if packet_id in self.acks or (on_done is None and code >= 0x80):
            raise Malformed(f"a PUBREC for {packet_id}, of which none was to come")
        if on_done is None:
            # Of an exchange from before this process, or sent again: what it lacks to its end is PUBREL.
            self._strays.setdefault(packet_id, _nobody)
            self._send(b"\x62\x02" + pack_u16(packet_id))
        elif code >= 0x80:
            self._finish(on_done, packet_id, code)
        else:
            self._state.released.add(packet_id)
            self._comps[packet_id] = on_done
            self._send(b"\x62\x02" + pack_u16(packet_id))

    def pubcomp(self, packet_id: int, code: int) -> None:
        on_done = self._comps.pop(packet_id, None)
        if on_done is not None:
            # "Packet identifier not found": the exchange was complete already.
            # It stays in `released` until another message takes its identifier. Where a gateway is killed before it has
            # told that this one is done, or while an earlier one is not, its successor asks for this PUBCOMP once more;
            # else it would publish the message anew.
            self._finish(on_done, packet_id, 0 if code == 0x92 else code)
        elif packet_id in self._strays:
            self._strays.pop(packet_id)(packet_id, "")
        else:
            raise Malformed(f"a PUBCOMP for {packet_id}, of which none was to come")

    def _finish(self, on_done: OnDone, packet_id: int, code: int) -> None:
        self.quota += 1
        on_done(packet_id, reason_name(code) if code >= 0x80 else "")


def _nobody(packet_id: int, refusal: str) -> None:
    """Take the end of an exchange that nobody waits for."""
