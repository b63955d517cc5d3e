"""The reference in docs/configuration.md, made from the definitions: `python -m tests.configuration_page` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from taktora_trio import Connector, MqttConnector, MqttRouting, Outbound, ZenohConnector, ZenohRouting
from taktora_trio.operate.configured import literal, masked
from taktora_trio.operate.example_file import setting_helps
from taktora_trio.runners.configuration.fields import kind_of, spelled
from taktora_trio.runners.configuration.keys import help_of, keys, settings_of

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
_KINDS = {"url": "URL, or list of URLs", "secret": "path", "path": "path", "text": "text"}
_LIST = "text, or list of texts"


def with_reference(page: str) -> str:
    """Return the page with its tables as they are to be."""
    mqtt = MqttConnector([Outbound("x", int, MqttRouting("x"))])
    zenoh = ZenohConnector([Outbound("x", int, ZenohRouting("x"))])
    for name, rows in (("general", general()), ("mqtt", of_connector(mqtt)), ("zenoh", of_connector(zenoh))):
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        page = "".join((before, begin, *(f"{row}\n" for row in rows), end, after))
    return page


def general() -> Iterator[str]:
    yield "| key | value | short option | for |"
    yield "|---|---|---|---|"
    for key in keys().values():
        if key.name.startswith("policy.plugin."):
            continue
        name = key.name
        short = f"`--{key.short}`" if key.short else "`--gateway-policy`" if name.startswith("policy.gateway") else ""
        yield f"| `{name}` | {kind_of(key.hint)} | {short} | {cell(help_of(key))} |"
    yield "| `policy.plugin. ...` | as `policy.gateway. ...` | `--plugin-policy` | the plugin's restart policy |"


def of_connector(connector: Connector) -> Iterator[str]:
    yield "| key | value | default | for |"
    yield "|---|---|---|---|"
    helps = setting_helps(connector)
    declared = {spelled(name): getattr(connector.options, name) for name in dir(connector.options) if name[0] != "_"}
    for name, setting in sorted(settings_of(connector).items()):
        listed = _LIST if setting.repeatable and setting.kind == "text" else _KINDS[setting.kind]
        kind = kind_of(setting.hint) if setting.hint is not None else listed
        value = declared.get(name)
        default = "none" if value is None else f"`{literal(masked(value))}`"
        yield f"| `{name}` | {kind} | {default} | {cell(helps[name])} |"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text()))
