"""docs/events.md, made from the table of events: `python -m tests.events_page` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from taktora_trio.connectors.mqtt.events import EVENTS as OF_MQTT
from taktora_trio.connectors.zenoh.events import EVENTS as OF_ZENOH
from taktora_trio.operate.events import AREAS, Event

_PROTOCOLS = {"MQTT": OF_MQTT, "Zenoh": OF_ZENOH}
ALL = {
    **AREAS,
    **{name: {code: Event(*known) for code, known in of.items()} for name, of in _PROTOCOLS.items()},  # type: ignore[arg-type]
}
PAGE = Path(__file__).parent.parent / "docs" / "events.md"


_HEAD = """# Event codes

Each line that the package logs has a code: in brackets at its end, or as `event` in JSON. What a line says may change
with any version; its code does not. So let alarms and scripts look for codes:

```text
16:13:38.242 INFO     mqtt: connected to mqtt://127.0.0.1:36325 [connected]
```

A warning or an error that comes more than 10 times in a minute with the same code, about the same connector, channel
or half, is counted from then on, and one line says how often it came (`repeated`). Your app's own lines have a code if
you give one, as in `log.info("too hot", extra={"event": "too-hot", "celsius": 71})`; all of `extra` stands in the JSON.
[Operating](operating.md#logs) says where lines go.
"""


def page() -> str:
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    for area, events in ALL.items():
        yield f"## {area}\n"
        yield "| code | level | meaning | to do |"
        yield "|---|---|---|---|"
        for code, event in sorted(events.items()):
            yield f"| `{code}` | {event.level} | {event.meaning} | {event.remedy} |"
        yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
