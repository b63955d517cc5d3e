"""A till: each sale is sent at once, and its goods are handed out when the sale is safe.

With a store that is when the gateway has it on disk, also while there is no broker. Without one, as here by default, it
is when the broker has acknowledged it.

    taktora-trio run examples.till:deployment --mode split --broker embedded --for 10
"""

import itertools

import attrs
import trio

from taktora_trio import ChannelWriter, ConnectorHost, Deployment, MessageRefused, MqttConnector, MqttRouting, Outbound

PATIENCE = 5.0  # seconds that a customer waits


@attrs.frozen
class Sale:
    number: int
    euros: float


SALES = Outbound("sales", Sale, MqttRouting("shop/till/sale", qos=1))


async def till(host: ConnectorHost) -> None:
    async with host.open_writer(SALES) as sales, trio.open_nursery() as nursery:
        for number in itertools.count(1):
            sent = await sales.send(Sale(number, 2.5))
            nursery.start_soon(hand_out, sales, sent, number)
            await trio.sleep(0.5)  # the next customer


async def hand_out(sales: ChannelWriter[Sale], sent: int, number: int) -> None:
    try:
        with trio.move_on_after(PATIENCE):
            await sales.wait_stored(sent)
            print(f"sale {number}: safe, the goods are handed out", flush=True)
            return
        print(f"sale {number}: not safe yet, the customer is asked to wait", flush=True)
        await sales.wait_stored(sent)  # the sale is on its way all the same: a wait that is cancelled loses nothing
        print(f"sale {number}: safe, though late", flush=True)
    except MessageRefused as exc:
        print(f"sale {number}: {exc.refusals[sent]}", flush=True)


deployment = Deployment("till", till, [MqttConnector([SALES])])
