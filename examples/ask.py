"""A calculator that answers requests, and a client that asks it, in one deployment or in two.

    taktora-trio run examples.ask:deployment --mode split --broker mqtt://localhost
    taktora-trio run examples.ask:service --mode split --broker mqtt://localhost
    taktora-trio run examples.ask:client --mode split --broker mqtt://localhost

Any other MQTT 5 client may ask, too:

    mosquitto_rr -V 5 -t calculator/divide -e calculator/divide/replies/me -m '{"dividend": 1, "divisor": 8}'
"""

import itertools

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


@attrs.frozen
class Division:
    dividend: int
    divisor: int


DIVIDE = Exchange("divide", Division, float, MqttRouting("calculator/divide", qos=1))
MQTT_5 = MqttOptions(protocol="5")  # it has the response topic and the correlation data


async def divide(request: Request[Division]) -> float:
    if request.value.divisor == 0:
        raise RequestFailed("nothing can be divided by 0")
    return request.value.dividend / request.value.divisor


async def serve(host: ConnectorHost) -> None:
    await host.serve(DIVIDE, divide)


async def ask(host: ConnectorHost) -> None:
    async with host.open_requester(DIVIDE) as calculator:
        for number in itertools.count():
            division = Division(100, number % 5)
            try:
                quotient = await calculator.request(division, timeout=5)
                print(f"{division.dividend} / {division.divisor} = {quotient:g}", flush=True)
            except RequestFailed as exc:
                print(f"{division.dividend} / {division.divisor}: {exc}", flush=True)
            except RequestTimeout as exc:
                print(exc, flush=True)
            await trio.sleep(0.5)


async def both(host: ConnectorHost) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, host)
        nursery.start_soon(ask, host)


service = Deployment("calculator", serve, [MqttConnector(DIVIDE.for_responder, options=MQTT_5)])
client = Deployment("calculator-client", ask, [MqttConnector(DIVIDE.for_requester, options=MQTT_5)])
deployment = Deployment("ask", both, [MqttConnector([*DIVIDE.for_requester, *DIVIDE.for_responder], options=MQTT_5)])
