"""New code is looked at before a half of a run is replaced by it."""

from __future__ import annotations

import re

import attrs
import pytest

from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttRouting, Outbound, ServiceMismatch
from taktora_trio.operate.fitting import check_fits
from taktora_trio.runners.parts.owning import open_domain
from taktora_trio.transport import cursor
from taktora_trio.transport.domain import Domain

TOLD = Outbound("told", int, MqttRouting("told", qos=1))
ASKED = Inbound("asked", int, MqttRouting("asked", qos=1))


async def app(host: ConnectorHost) -> None: ...


def deployed(*connectors: MqttConnector) -> Deployment:
    return Deployment("shop", app, connectors)


async def test_new_code_that_fits_and_that_does_not(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    old = deployed(MqttConnector([TOLD, ASKED], name="plant"), MqttConnector([Outbound("x", int, MqttRouting("x"))]))
    check_fits(old, domain)  # nobody runs
    async with open_domain(domain, old.connectors):
        check_fits(old, domain)
        plant, other = old.connectors
        moved = [Outbound("told", str, MqttRouting("elsewhere", qos=2)), ASKED]
        check_fits(deployed(attrs.evolve(plant, channels=moved)), domain)  # type: ignore[arg-type]

        def refused(connectors: list[object], said: str) -> None:
            with pytest.raises(ServiceMismatch, match=f"^the new code does not fit the run, which goes on.*{said}"):
                check_fits(deployed(*connectors), domain)  # type: ignore[arg-type]

        wider = attrs.evolve(TOLD, window=128)
        refused(
            [attrs.evolve(plant, channels=[wider, ASKED]), other], "this half has window 128, the domain has window"
        )
        refused([attrs.evolve(plant, channels=[TOLD]), other], re.escape("asked.in: "))
        refused(
            [*old.connectors, MqttConnector([wider], name="new")], r"connector\.new is not in the domain.*stop the run"
        )
        with monkeypatch.context() as patch:
            patch.setattr(cursor, "MAGIC", cursor.MAGIC + (1 << 56))
            refused(list(old.connectors), "another version of taktora-trio")
