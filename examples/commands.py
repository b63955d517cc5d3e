"""Commands that are answered when they are accepted, and again when they are completed.

taktora-trio run examples.commands:deployment --mode split --broker mqtt://localhost
"""

import attrs
import trio

from taktora_trio import (
    ConnectorHost,
    Deployment,
    Exchange,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Request,
    RequestFailed,
    RequestTimeout,
)

LENGTH = 100  # of the axis, in mm
SPEED = 100  # mm/s


@attrs.frozen
class Move:
    to: float  # where it is to stand, and not how far it goes: to do that twice does no harm


@attrs.frozen
class State:
    phase: str
    position: float


MOVES = Exchange("moves", Move, State, MqttRouting("axis/move", qos=1))


class Axis:
    def __init__(self) -> None:
        self.position = 0.0
        self._turn = trio.StrictFIFOLock()

    async def move(self, request: Request[Move]) -> State:
        to = request.value.to
        if not 0 <= to <= LENGTH:
            raise RequestFailed(f"{to:g} mm is beyond the ends of the axis")
        await request.report(State("accepted", self.position))
        async with self._turn:
            await trio.sleep(abs(to - self.position) / SPEED)
            self.position = to
            return State("completed", self.position)


async def operate(host: ConnectorHost) -> None:
    async with host.open_requester(MOVES) as axis:
        for to in (70, 20, 120):
            try:
                async with axis.call(Move(to), timeout=10) as call:
                    async for state in call:
                        print(f"to {to} mm: {state.phase} at {state.position:g} mm", flush=True)
            except (RequestFailed, RequestTimeout) as exc:
                print(f"to {to} mm: {exc}", flush=True)


async def run(host: ConnectorHost) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.serve, MOVES, Axis().move)
        await operate(host)
        nursery.cancel_scope.cancel()


connector = MqttConnector([*MOVES.for_requester, *MOVES.for_responder], options=MqttOptions(protocol="5"))
deployment = Deployment("commands", run, [connector])
