"""Who takes part in a contest on this machine: ours in every shape, and each peer in its best configuration.

The configurations were chosen by trials of the alternatives in turn, by rate and CPU time, where a library's docs leave
a choice: how many calls at once, which event loop, how often the loop has a turn.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import attrs

from benchmarks.children import ROOT
from benchmarks.contest import Entry
from benchmarks.peers.with_mqttjs import MODULES
from benchmarks.report import grid

__all__ = [
    "FAST",
    "FEATURES",
    "PEERS",
    "WINDOW",
    "Peer",
    "configurations",
    "direct",
    "features",
    "missing_peers",
    "ours",
    "peers",
]

FAST = "native"
"""The session that the targets are for."""
WINDOW = 256
"""Messages of ours that may be on their way at once; by default it is 64, which `-64` in a name stands for."""
_AIOMQTT3 = ROOT / ".venv" / "aiomqtt3" / "bin" / "python"


@attrs.frozen(kw_only=True)
class Peer:
    """A client that is used directly."""

    entry: Entry
    configuration: str
    """For people: what was set that is not the library's default."""
    version: Callable[[], str]
    """Returns what is installed. Raises `LookupError` if nothing is."""
    install: str
    """How to get it."""


def ours(mode: Literal["split", "in-process"], session: str = FAST, *, default: bool = False, **more: object) -> Entry:
    """Return an app and its gateway: with a window of 256, or with every option at its default."""
    sizes = {} if default else {"window": WINDOW}
    return Entry(
        f"{mode}-{session}{'-64' if default else ''}", "through_gateway", mode, {"session": session, **sizes, **more}
    )


def direct(session: str = FAST) -> Entry:
    """Return the gateway's session without the gateway."""
    return Entry(f"session-{session}", "session_directly", None, {"session": session, "window": WINDOW})


def _here(package: str, *modules: str) -> Callable[[], str]:
    def find() -> str:
        if missing := [module for module in modules if importlib.util.find_spec(module) is None]:
            raise LookupError(missing)
        try:
            return version(package)
        except PackageNotFoundError:
            raise LookupError(package) from None

    return find


def _in_its_own_environment() -> str:
    code = "from importlib.metadata import version as v; print(v('aiomqtt'), '(mqtt5', v('mqtt5') + ')')"
    try:
        return subprocess.run([_AIOMQTT3, "-c", code], capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        raise LookupError("aiomqtt 3") from None


def _of_node() -> str:
    package = MODULES / "mqtt" / "package.json"
    node = shutil.which("node")
    if node is None or not package.exists():
        raise LookupError("MQTT.js")
    its_own = subprocess.run([node, "--version"], capture_output=True, check=True, text=True).stdout.strip()
    return f"{json.loads(package.read_text())['version']} (node {its_own})"


def _of_mosquitto() -> str:
    if shutil.which("mosquitto_pub") is None or shutil.which("mosquitto_sub") is None:
        raise LookupError("mosquitto_pub")
    said = subprocess.run(["mosquitto_pub", "--version"], capture_output=True, text=True, check=False).stdout
    return said.split()[2]


_GROUP = "pip install --group bench"
PEERS: Sequence[Peer] = [
    Peer(
        entry=Entry("gmqtt", "with_gmqtt"),
        configuration="asyncio; a turn of the loop after 64 messages",
        version=_here("gmqtt"),
        install=_GROUP,
    ),
    Peer(
        entry=Entry("gmqtt-uvloop", "with_gmqtt", None, {"uvloop": True}),
        configuration="uvloop, as its README shows; a turn of the loop after 64 messages",
        version=_here("gmqtt", "uvloop"),
        install=_GROUP,
    ),
    Peer(
        entry=Entry("mqttium", "with_mqttium", None, {"receipts": True}),
        configuration="asyncio (uvloop can't: `happy_eyeballs_delay`); `publish_many`; on a schedule `publish`",
        version=_here("mqttium"),
        install=_GROUP,
    ),
    Peer(
        entry=Entry("aiomqtt-2", "with_aiomqtt", None, {"at_once": 16, "uvloop": True}),
        configuration="uvloop; TCP_NODELAY; 16 tasks at once",
        version=_here("aiomqtt", "uvloop"),
        install=_GROUP,
    ),
    Peer(
        entry=Entry("aiomqtt-3", "with_aiomqtt3", None, {"at_once": 64, "uvloop": True}, str(_AIOMQTT3)),
        configuration="uvloop, with which it has TCP_NODELAY; 64 tasks at once",
        version=_in_its_own_environment,
        install="make .venv/aiomqtt3",
    ),
    Peer(
        entry=Entry("zmqtt", "with_zmqtt", None, {"at_once": 64, "uvloop": True}),
        configuration="uvloop; 64 tasks at once",
        version=_here("zmqtt", "uvloop"),
        install=_GROUP,
    ),
    Peer(
        entry=Entry("paho-threads", "with_paho"),
        configuration="`loop_start`; TCP_NODELAY; 64 in flight",
        version=_here("paho-mqtt"),
        install=_GROUP,
    ),
    Peer(
        entry=Entry("mqttjs", "with_mqttjs", None, {"at_once": 256}),
        configuration="TCP_NODELAY; 256 without their callback; a turn of the loop after 64 messages",
        version=_of_node,
        install="make .venv/node",
    ),
    Peer(
        entry=Entry("mosquitto_pub", "with_mosquitto"),
        configuration="`--nodelay`; lines on its standard input",
        version=_of_mosquitto,
        install="apt-get install mosquitto-clients",
    ),
]


def features(entry: Entry) -> list[str]:
    """Return what `features.py` finds of it, under the headlines of `FEATURES`.

    Does an app outlive a kill of what has the connection? Does it go on while that hangs? Are messages on disk till
    they are acknowledged?
    """
    killed, hangs = entry.mode == "split", entry.mode == "split" or entry.module == "with_mosquitto"
    return ["yes" if it else "no" for it in (killed, hangs, entry.options.get("stored", False))]


FEATURES = ("outlives kill", "hang", "on disk")


def peers() -> list[Entry]:
    """Return those that are installed."""
    return [peer.entry for peer in PEERS if _found(peer)]


def missing_peers() -> list[str]:
    """Say who is left out, and how to get it."""
    return [f"{peer.entry.name} is left out: {peer.install}" for peer in PEERS if not _found(peer)]


def configurations() -> str:
    """Return a line for each peer: its version, and what was set."""
    rows = [["peer", "version", "configuration"]]
    rows += [[peer.entry.name, found, peer.configuration] for peer in PEERS if (found := _found(peer))]
    return grid(rows)


def _found(peer: Peer) -> str:
    try:
        return peer.version()
    except LookupError:
        return ""
