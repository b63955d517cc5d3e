"""A trial: messages to a topic that the operator has chosen, to see that they come back, and that one is retained."""

from __future__ import annotations

import secrets

import trio
from trio_util import RepeatedEvent, move_on_when

from taktora_trio.connectors.finding import Finding, fail, ok, warn
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState
from taktora_trio.connectors.mqtt.sessions.native import NativeSession, open_native_session
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, ConnectRefused, SessionLost
from taktora_trio.connectors.mqtt.wire.message import OWN_PACKET_IDS, Message
from taktora_trio.escaping import escaped

__all__ = ["try_out"]

_RETAINED_WITHIN = 0.5  # seconds: nothing tells that there is no retained message
_CLEARS_WITHIN = 3.0
_ALLOW = "allow this user to publish and to subscribe there, at the broker"


async def try_out(guest: MqttOptions, topic: str) -> list[Finding]:
    """Publish at each QoS, and one retained message, which is removed; return what came of it."""
    trial = _Trial(guest, topic)
    try:
        async with open_native_session(guest, trial.hear, ClientState(), 256) as session:
            trial.session = session
            try:  # here, for what leaves the block is a group
                return await trial.run()
            except SessionLost as exc:
                return [trial.broken(exc)]
    except (ConnectFailed, ConnectRefused) as exc:
        return [trial.broken(exc)]


class _Trial:
    def __init__(self, guest: MqttOptions, topic: str) -> None:
        self._seconds = guest.connect_timeout
        self._topic = topic
        self._heard: list[Message] = []
        self._news = RepeatedEvent()
        self.shown = repr(escaped(topic))
        self.session: NativeSession | None = None

    def hear(self, message: Message) -> None:
        self._heard.append(message)
        if message.qos and self.session is not None:
            self.session.acknowledge(message)
        self._news.set()

    def broken(self, error: Exception) -> Finding:
        text = f"at {self.shown}: {escaped(str(error), 300)}"
        return fail("try", text, f"a broker may end it so where a user may not publish: {_ALLOW}, or look at its log")

    async def run(self) -> list[Finding]:
        session = self.session
        assert session is not None
        if refused := await session.subscribe({self._topic: 2}):
            return [fail("try", f"{self.shown} is refused: {escaped(refused[self._topic])}", _ALLOW)]
        if await self._arrives(b"", _RETAINED_WITHIN):
            return [fail("try", f"there is a retained message at {self.shown}", "choose a topic that nobody uses")]
        findings: list[Finding] = []
        for qos in range(min(2, session.limits.maximum_qos) + 1):
            findings.append(found := await self._at(qos))
            if found.status == "fail":
                return _joined(findings, self.shown)
        if session.limits.retain_available:
            findings.append(await self._retained())
        return _joined(findings, self.shown)

    async def _at(self, qos: int) -> Finding:
        payload = secrets.token_hex(8).encode()
        if refusal := await self._publish(payload, qos):
            return fail("try", f"a message of QoS {qos} to {self.shown} is refused: {escaped(refusal)}", _ALLOW)
        if (came := await self._arrives(payload, self._seconds)) is None:
            text = f"a message of QoS {qos} to {self.shown} did not come back within {self._seconds:g} s"
            return fail("try", text, f"a broker drops so what a user may not publish: {_ALLOW}")
        if came.qos < qos:
            return warn("try", f"a message of QoS {qos} came back at QoS {came.qos}", "use that QoS, or another broker")
        return ok("try", f"QoS {qos}")

    async def _retained(self) -> Finding:
        session = self.session
        assert session is not None
        payload = secrets.token_hex(8).encode()
        try:
            if refusal := await self._publish(payload, 1, retained=True):
                return warn("try", f"a retained message is refused: {escaped(refusal)}", _ALLOW)
            await session.unsubscribe([self._topic])
            self._heard.clear()
            await session.subscribe({self._topic: 2})
            came = await self._arrives(payload, self._seconds)
            if came is None or not came.retained:
                text = f"the broker keeps no retained message at {self.shown}"
                return warn("try", text, "allow it at the broker; without it there is no presence")
            return ok("try", "retained")
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLEARS_WITHIN):
                await self._publish(b"", 1, retained=True)  # which removes it

    async def _publish(self, payload: bytes, qos: int, *, retained: bool = False) -> str:
        """Publish, wait for the answer, and return why it was refused; empty if it was not."""
        assert self.session is not None
        answers: list[str] = []
        answered = trio.Event()

        def done(packet_id: int, refusal: str) -> None:
            answers.append(refusal)
            answered.set()

        self.session.publish(Message(self._topic, payload, qos, retained=retained), OWN_PACKET_IDS, done)
        with trio.move_on_after(self._seconds):
            async with move_on_when(self.session.wait_until_lost):
                await answered.wait()
        if self.session.lost is not None:
            raise self.session.lost
        return answers[0] if answers else "the broker does not answer"

    async def _arrives(self, payload: bytes, seconds: float) -> Message | None:
        """Return the message with this payload; with an empty one, any. `None` if it does not come in time."""
        assert self.session is not None
        with trio.move_on_after(seconds):
            async with move_on_when(self.session.wait_until_lost):
                while True:
                    found = [one for one in self._heard if not payload or bytes(one.payload) == payload]
                    if found:
                        return found[0]
                    await self._news.wait()
        return None


def _joined(findings: list[Finding], topic: str) -> list[Finding]:
    """Return those that are ok as one."""
    fine = ", ".join(finding.text for finding in findings if finding.status == "ok")
    return [
        *([ok("try", f"messages to {topic} come back: {fine}")] if fine else []),
        *(finding for finding in findings if finding.status != "ok"),
    ]
