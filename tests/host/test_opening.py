"""Live objects come from `open_*`; what an app opens wrongly is a ConfigError that says what was meant."""

from __future__ import annotations

from typing import Any

import pytest

from taktora_trio import (
    ChannelReader,
    ChannelWriter,
    ConfigError,
    ConnectorGateway,
    ConnectorHost,
    Gateways,
    Inbound,
    MqttConnector,
    MqttRouting,
    Outbound,
    Requester,
    Responder,
    open_connector_host,
)
from taktora_trio.connectors.plan import specs_of
from taktora_trio.opening import NoPublicConstructor
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.services import open_services


@pytest.mark.parametrize(
    ("cls", "opened_by"),
    [
        (Gateways, r"open_watching_host\(node, connectors\)"),
        (ConnectorHost, r"open_connector_host\(node, connectors\)"),
        (ConnectorGateway, r"open_connector_gateway\(node, connectors, incarnation=\.\.\., name=\.\.\.\)"),
        (ChannelWriter, r"host\.open_writer\(channel\)"),
        (ChannelReader, r"host\.open_reader\(channel\)"),
        (Requester, r"host\.open_requester\(exchange\)"),
        (Responder, r"nursery\.start\(host\.serve, exchange, handler\)"),
    ],
)
def test_a_constructor_is_private_and_says_what_opens_one(cls: Any, opened_by: str) -> None:
    with pytest.raises(TypeError, match=rf"{cls.__name__} has no public constructor: use `async with {opened_by}`"):
        cls()
    with pytest.raises(TypeError, match="no public constructor"):
        cls(1, two=2)


def test_what_creates_it_passes_its_arguments_on() -> None:
    class Live(metaclass=NoPublicConstructor, opened_by="open_live()"):
        def __init__(self, value: int, *, other: int) -> None:
            self.values = (value, other)

    class Lively(Live):
        pass

    assert Live._create(1, other=2).values == (1, 2)
    assert Lively._create(1, other=2).values == (1, 2)
    with pytest.raises(TypeError, match=r"Lively has no public constructor: use `async with open_live\(\)`"):
        Lively(1, other=2)


def test_an_apps_host_has_nothing_that_only_who_runs_a_gateway_needs() -> None:
    public = {name for name in vars(ConnectorHost) if not name.startswith("_")}
    assert public == {
        "health",
        "health_events",
        "open_reader",
        "open_requester",
        "open_writer",
        "revive_gateway",
        "serve",
        "settings",
        "states",
        "statistics",
        "wait_for_health",
    }


def test_an_apps_ends_have_nothing_that_only_a_gateway_needs() -> None:
    assert {name for name in vars(ChannelReader) if not name.startswith("_")} == {
        *("receive", "receive_nowait", "wait", "borrow", "take", "take_nowait", "reject", "close", "aclose"),
        *("is_closed", "is_behind", "rejected", "statistics"),
    }
    assert {name for name in vars(ChannelWriter) if not name.startswith("_")} == {
        *("send", "send_nowait", "loan", "close", "aclose", "statistics"),
        *("last_sent", "wait_stored", "wait_acknowledged"),
    }


OUT, IN = Outbound("out", int, MqttRouting("out")), Inbound("in", int, MqttRouting("in"))


@pytest.mark.parametrize(
    ("method", "channel", "says"),
    [
        ("open_writer", IN, "channel 'in' is an Inbound: use open_reader for it"),
        ("open_reader", OUT, "channel 'out' is an Outbound: use open_writer for it"),
        ("open_writer", "out", r"'out' is no channel: give the Outbound\(\.\.\.\) that the connector has"),
        ("open_reader", None, r"None is no channel: give the Inbound\(\.\.\.\) that the connector has"),
        (
            "open_writer",
            Outbound("other", int, MqttRouting("other")),
            "channel 'other' belongs to no connector of this deployment; they have 'out', 'in': list it in",
        ),
        ("open_reader", Inbound("in", int, MqttRouting("in")), "'in' belongs to no .* an equal one does: use that"),
    ],
)
async def test_what_cannot_be_opened(method: str, channel: object, says: str, domain: Domain) -> None:
    connector = MqttConnector([OUT, IN])
    with domain.hold("owner"):
        async with (
            open_node(domain, "test") as node,
            open_services(node, specs_of([connector])),
            open_connector_host(node, [connector]) as host,
        ):
            with pytest.raises(ConfigError, match=says):
                async with getattr(host, method)(channel):
                    pass
