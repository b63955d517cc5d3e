"""Help about the settings that connectors bring to the command line."""

from __future__ import annotations

import importlib.util
import pkgutil
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from taktora_trio import connectors
from taktora_trio.connectors.settings import Setting
from taktora_trio.errors import ConfigError
from taktora_trio.runners.loading import load_deployment

__all__ = ["settings_help"]

_METAVARS = {"text": "TEXT", "path": "PATH", "url": "URL", "secret": "PATH"}
_WIDTH = 80


def settings_help(target: str | None) -> str:
    """Return help about the settings of that deployment's connectors, or of the protocols that come with this package.

    The latter too where the deployment can't be loaded.
    """
    problem = ""
    if target is not None:
        try:
            deployment = load_deployment(target)
        except ConfigError as exc:
            problem = f"\n({exc})"
        else:
            by_owner = {f"connector {one.name}": one.settings for one in deployment.connectors}
            return _text(by_owner, f"Settings of {target}")
    return _text(_of_this_package(), "Settings of connectors; with MODULE:DEPLOYMENT, those of its own") + problem


def _of_this_package() -> Mapping[str, Sequence[Setting]]:
    """Return the settings of each protocol by its name. They stand in a module `settings` of the protocol's package."""
    packages = [module.name for module in pkgutil.iter_modules(connectors.__path__) if module.ispkg]
    modules = {name: f"{connectors.__name__}.{name}.settings" for name in packages}
    there = {name: module for name, module in modules.items() if importlib.util.find_spec(module)}
    return {name: importlib.import_module(module).SETTINGS for name, module in there.items()}


def _text(by_owner: Mapping[str, Sequence[Setting]], title: str) -> str:
    width = min(shutil.get_terminal_size((_WIDTH, 24)).columns, 2 * _WIDTH)
    lines = [f"{title}:"]
    for settings, owners in _grouped(by_owner):
        lines.append(f"  {', '.join(owners)}:" if settings else f"  {', '.join(owners)}: none")
        for setting in settings:
            lines.append(f"    {setting.option} {_METAVARS[setting.kind]}")
            lines += textwrap.wrap(setting.help, width, initial_indent=" " * 8, subsequent_indent=" " * 8)
    lines += ["", "A setting is for each connector that has it, or for one: --NAME CONNECTOR=VALUE"]
    lines += [
        "Each other field of a connector's options, of the store, of the policies and of the app's settings is an"
    ]
    lines += ["option too, and can stand in a file: `taktora-trio config MODULE:DEPLOYMENT --example` lists them all."]
    return "\n".join(lines)


def _grouped(by_owner: Mapping[str, Sequence[Setting]]) -> Iterable[tuple[Sequence[Setting], list[str]]]:
    """Return the settings, each with all who have the same ones."""
    groups: list[tuple[Sequence[Setting], list[str]]] = []
    for owner, settings in by_owner.items():
        found = next((owners for others, owners in groups if others == settings), None)
        if found is None:
            groups.append((settings, [owner]))
        else:
            found.append(owner)
    return groups
