"""A file of settings to begin with: every key, with what it is for, commented out, at the value that it has."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from taktora_trio.connectors.base import Connector
from taktora_trio.operate.configured import SECRET, app_fields_of, literal, shown
from taktora_trio.runners.configuration.app_settings import NOTHING
from taktora_trio.runners.configuration.fields import docs_of
from taktora_trio.runners.configuration.keys import help_of, keys, settings_of, stands_for_none
from taktora_trio.runners.configuration.reading import Sources, read_configuration
from taktora_trio.runners.deployment import Deployment

__all__ = ["example_file", "helps"]

_WIDTH = 118
_HEAD = """\
# Settings of deployment {name!r}. Each key stands here at the value that it has without this file: remove its '#' to
# change it. The environment (TAKTORA_...) wins over this file, and options win over both. `taktora-trio config` shows
# what comes of all.
"""


def example_file(deployment: Deployment) -> str:
    """Return the file for a deployment. A setting of its app that has no default is said to be needed."""
    configuration = read_configuration(deployment, Sources(environment=False), "gateway")
    texts = helps(deployment)
    values = {one.key: one.value for one in shown(configuration, whole=True)}
    every = [*keys(), *(key for key in values if key not in keys())]
    may_be_none = {*keys()} | {
        f"connector.{connector.name}.{name}"
        for connector in deployment.connectors
        for name, setting in settings_of(connector).items()
        if stands_for_none(setting, "none")
    }
    lines = [_HEAD.format(name=deployment.name)]
    table = ""
    for key in every:
        heading, _, name = key.rpartition(".")
        if heading != table and _head_of(heading) != table:
            table = _head_of(heading)
            lines.append(f"\n# [{table}]" if table.startswith("store") else f"\n[{table}]")
        if table != heading:
            name = key.removeprefix(f"{table}.")
        lines += _comment(texts.get(key, ""))
        is_given = values[key] != SECRET and (values[key] is not None or key in may_be_none)
        lines.append(f"# {name} = {literal(values[key])}" if is_given else f"# {name} =")
    return "\n".join(lines)


def helps(deployment: Deployment) -> dict[str, str]:
    """Return what each key of a deployment is for."""
    texts = {key.name: help_of(key) for key in keys().values()}
    for connector in deployment.connectors:
        texts |= {f"connector.{connector.name}.{name}": text for name, text in setting_helps(connector).items()}
    for one in app_fields_of(deployment):
        needed = "It has to be given." if one.default is NOTHING else ""
        texts[one.key] = " ".join(filter(None, (docs_of(one.owner).get(one.path[-1], ""), needed)))
    return texts


def setting_helps(connector: Connector) -> dict[str, str]:
    """Return what each setting of a connector is for."""
    docs = docs_of(type(connector.options))
    return {
        name: setting.help or docs.get(name.replace("-", "_"), "") for name, setting in settings_of(connector).items()
    }


def _head_of(heading: str) -> str:
    return "app" if heading.startswith("app.") else heading


def _comment(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, _WIDTH, initial_indent="## ", subsequent_indent="## ", break_on_hyphens=False)
