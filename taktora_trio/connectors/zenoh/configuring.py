"""The library's configuration of a node, made of the options: https://zenoh.io/docs/manual/configuration/."""

from __future__ import annotations

from collections.abc import Mapping

from taktora_trio.connectors.zenoh.options import ZenohOptions

__all__ = ["configuration"]


def configuration(options: ZenohOptions) -> Mapping[str, object]:
    """Return the values to set, by their place in the configuration."""
    patience = round(1000 * options.connect_timeout)
    values: dict[str, object] = {
        "mode": options.mode,
        "connect/endpoints": list(options.connect),
        # A client tries once, for the gateway tries again. A peer and a router go on trying.
        "connect/timeout_ms": 0 if options.mode == "client" else -1,
        "connect/exit_on_failure": options.mode == "client",
        "transport/unicast/open_timeout": patience,
        "transport/link/tx/lease": round(1000 * options.lease),
        # Each session would have a file in /dev/shm, which stays when the gateway is killed.
        "transport/shared_memory/enabled": False,
    }
    if options.listen:
        values["listen/endpoints"] = list(options.listen)
    if options.mode == "client":
        values["scouting/multicast/enabled"] = False
    return values
