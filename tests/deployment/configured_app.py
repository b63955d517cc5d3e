"""An app with settings, for test_configured.py. It prints what it has got, and whether it can see a secret."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import trio

from taktora_trio import ConnectorHost, Deployment, MqttConnector, MqttRouting, Outbound

LEVEL = Outbound("level", float, MqttRouting("configured/level", qos=1))


@attrs.frozen
class Settings:
    zone: str
    high: float = 1.0
    api_token: str = ""


async def app(host: ConnectorHost) -> None:
    settings: Settings = host.settings
    async with host.open_writer(LEVEL) as levels:
        await levels.wait_acknowledged(await levels.send(settings.high))
    process = Path("/proc/self")
    seen = [(process / name).read_bytes().decode() for name in ("cmdline", "environ")]
    for fd in os.listdir("/proc/self/fd"):
        path = process / "fd" / fd
        if path.exists() and str(path.readlink()).startswith("/memfd:"):
            seen.append(path.read_bytes().decode(errors="replace"))
    print(f"zone {settings.zone}, {len(settings.api_token)} characters", flush=True)  # noqa: T201 - the test reads it
    print(f"the broker's password is {'' if 'br0ker-pw' in ''.join(seen) else 'not '}seen", flush=True)  # noqa: T201
    await trio.sleep_forever()


deployment = Deployment("configured", app, [MqttConnector([LEVEL], name="plant")], settings=Settings)
