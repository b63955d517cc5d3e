"""A plain Zenoh session as a process, driven by lines of JSON: a router, or a peer that has no taktora_trio.

python -m tests.zenoh.networks.node '{"mode": "router", "listen/endpoints": ["tcp/127.0.0.1:7447"]}'

It prints `{"event": "open"}`, takes a command a line, and prints what comes. It ends when its input ends.
"""

import json
import sys
import threading
import time
from typing import Any

import zenoh

_lock = threading.Lock()
_kept: list[Any] = []


def tell(event: str, **fields: object) -> None:
    with _lock:
        sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **fields}) + "\n")
        sys.stdout.flush()


def put(session: zenoh.Session, key: str, text: str = "", times: int = 1, pause: float = 0.0) -> None:
    for number in range(times):
        session.put(key, text or str(number), congestion_control=zenoh.CongestionControl.BLOCK)
        time.sleep(pause)
    tell("put", key=key, times=times)


def subscribe(session: zenoh.Session, key: str) -> None:
    def heard(sample: zenoh.Sample) -> None:
        tell("sample", key=str(sample.key_expr), text=sample.payload.to_string())

    _kept.append(session.declare_subscriber(key, heard))


def answer(session: zenoh.Session, key: str, text: str = "yes", hold: bool = False) -> None:
    def asked(query: zenoh.Query) -> None:
        payload = query.payload
        tell("query", key=str(query.key_expr), text=payload.to_string() if payload else "")
        if hold:
            _kept.append(query)
        else:
            query.reply(query.key_expr, text)
            query.drop()

    _kept.append(session.declare_queryable(key, asked))


def ask(session: zenoh.Session, key: str, text: str = "", timeout: float = 10.0) -> None:
    began = time.monotonic()

    def replied(reply: zenoh.Reply) -> None:
        content = reply.ok or reply.err
        assert content is not None
        tell("reply", key=key, ok=reply.ok is not None, text=content.payload.to_string())

    def ended() -> None:
        tell("asked", key=key, took=time.monotonic() - began)

    handler = zenoh.handlers.Callback(replied, ended)
    session.get(key, handler, payload=text, timeout=timeout, target=zenoh.QueryTarget.ALL)


def token(session: zenoh.Session, key: str) -> None:
    _kept.append(session.liveliness().declare_token(key))


def watch(session: zenoh.Session, key: str) -> None:
    def seen(sample: zenoh.Sample) -> None:
        tell("token", key=str(sample.key_expr), there=sample.kind == zenoh.SampleKind.PUT)

    _kept.append(session.liveliness().declare_subscriber(key, seen, history=True))


def links(session: zenoh.Session) -> None:
    def changed(event: Any) -> None:
        transport = event.transport
        tell("link", there=event.kind == zenoh.SampleKind.PUT, what=str(transport.whatami), to=str(transport.zid))

    _kept.append(session.info.declare_transport_events_listener(changed, history=True))


COMMANDS = {each.__name__: each for each in (put, subscribe, answer, ask, token, watch, links)}


def main() -> None:
    config = zenoh.Config()
    config.insert_json5("transport/shared_memory/enabled", "false")  # it would leave a file in /dev/shm
    for path, value in json.loads(sys.argv[1]).items():
        config.insert_json5(path, json.dumps(value))
    with zenoh.open(config) as session:
        tell("open", zid=str(session.info.zid()))
        for line in sys.stdin:
            command = json.loads(line)
            COMMANDS[command.pop("do")](session, **command)


if __name__ == "__main__":
    main()
