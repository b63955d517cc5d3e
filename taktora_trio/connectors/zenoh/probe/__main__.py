"""Asks the library in a process of its own, where it may log and start threads: `probe.ask` starts this.

The question comes by the standard input, since a password may be in it. The answer is the last line of the standard
output; before it comes what the library logs.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from importlib.metadata import version
from typing import Any

import zenoh

__all__ = ["main"]

_PATIENCE = 1.0  # seconds for what comes at once
_TRIES = 20


def main() -> None:
    """Answer one question, as `probe.Question` has it."""
    question = json.load(sys.stdin)
    zenoh.init_log_from_env_or("warn")
    answer: dict[str, Any] = {"version": version("eclipse-zenoh")}
    try:
        answer |= _answer(question)
    except zenoh.ZError as exc:
        answer["error"] = str(exc)
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    config = zenoh.Config.from_json5(question["text"])
    mode = json.loads(config.get_json("mode"))
    for place, value in question["values"].items():
        config.insert_json5(place, json.dumps(value))
    answer = {"mode": mode, "connect": _by_mode(config, "connect/endpoints", question["values"]["mode"])}
    if question["scout"]:
        answer["found"] = _look_around(config, question["scout"])
    elif question["open"]:
        with zenoh.open(config) as session:
            answer["routers"] = _routers(session)
            answer["peers"] = [str(one) for one in session.info.peers_zid()]
            if question["trial"]:
                answer |= _try_out(session, config, question["trial"])
    return answer


def _by_mode(config: zenoh.Config, place: str, mode: str) -> list[str]:
    """Return a list of texts, which a configuration may have for each mode."""
    value = json.loads(config.get_json(place))
    value = value.get(mode, []) if isinstance(value, dict) else value
    return [one for one in value or [] if isinstance(one, str)]


def _look_around(config: zenoh.Config, seconds: float) -> list[str]:
    hellos: list[zenoh.Hello] = []
    callback: Any = hellos.append  # its types know no method
    with zenoh.scout(callback, what="router|peer", config=config):
        time.sleep(seconds)
    return sorted({f"{hello.whatami} at {', '.join(hello.locators)}" for hello in hellos})


def _try_out(session: zenoh.Session, config: zenoh.Config, key: str) -> dict[str, int]:
    """Put messages until one comes to a second node, for at first it is not known here that somebody wants them."""
    came = threading.Semaphore(0)
    with zenoh.open(config) as other:
        other.declare_subscriber(key, lambda sample: came.release())
        for put in range(1, _TRIES + 1):
            session.put(key, b"taktora-trio doctor")
            if came.acquire(timeout=_PATIENCE / _TRIES):
                return {"put": put, "came": 1}
    return {"put": _TRIES, "came": 0}


def _routers(session: zenoh.Session) -> list[str]:
    """Return the routers, each with its version where it tells that."""
    versions: dict[str, str] = {}
    for reply in session.get("@/*/router", timeout=_PATIENCE):
        if reply.ok is not None:
            _, zid, *_ = str(reply.ok.key_expr).split("/")
            told = json.loads(reply.ok.payload.to_bytes())
            versions[zid] = str(told.get("version", "")) if isinstance(told, dict) else ""
    return [f"{zid} {versions.get(zid, '')}".rstrip() for zid in map(str, session.info.routers_zid())]


if __name__ == "__main__":
    main()
