"""The commands `taktora-trio channels` and `taktora-trio asyncapi`: imported when they are asked for.

The help of the commands themselves is in `cli`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from taktora_trio.connectors.description import ServerDescription
from taktora_trio.declare.files import Format, encoded, format_of, read_document, write_whole
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.command.target import Target
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.loading import load_deployment
from taktora_trio.runners.secrets import read_url
from taktora_trio.runners.this_process.outcome import printing_aside, show, show_document

__all__ = ["list_channels", "write_asyncapi"]


def list_channels(
    target: Target,
    /,
    *,
    json: Annotated[bool, Parameter(negative="", help="As JSON, with all limits.")] = False,
) -> int:
    """List channels."""
    from taktora_trio.declare.table import as_json, as_table

    with printing_aside():
        connectors = load_deployment(target).connectors
    if json:
        show_document(as_json(connectors))
    else:
        show(as_table(connectors))
    return 0


def write_asyncapi(
    target: Target,
    /,
    *,
    output: Annotated[
        Path | None, Parameter(help="The file to write, whole or not at all; by default standard output.")
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        Format | None, Parameter(help="By default as the file's name says, and else YAML.")
    ] = None,
    against: Annotated[
        Path | None,
        Parameter(help="An older document, YAML or JSON: say what breaks others that has changed, and exit with 1."),
    ] = None,
    all_changes: Annotated[
        bool, Parameter(negative="", help="With --against: also say what has changed and breaks nobody.")
    ] = False,
    server: Annotated[
        tuple[str, ...],
        Parameter(
            negative="", help="The URL of a peer to name, such as a broker: [CONNECTOR=]URL. Its password is left out."
        ),
    ] = (),
    app_version: Annotated[
        str | None, Parameter(help="The version of the app; by default the module's own, or that of its package.")
    ] = None,
) -> int:
    """Write an AsyncAPI document."""
    from taktora_trio.declare.document import Info, make_document

    if all_changes and against is None:
        raise ConfigError("--all-changes is for --against FILE: say which document to compare with")
    if format is not None and against is not None and output is None:
        raise ConfigError("--against alone writes no document: leave --format out, or add --output FILE")
    before = None if against is None else read_document(against)
    with printing_aside():
        deployment = load_deployment(target)
    module = target.rpartition(":")[0]
    info = Info(deployment.name, app_version or _version(module), _summary(module))
    document = make_document(info, deployment.connectors, _servers(deployment, server))
    content = None
    if output is not None or against is None:
        content = encoded(document, format or format_of(output))
    if before is not None:
        from taktora_trio.declare.changes import changes

        found = changes(before, document)
        for change in found:
            if change.breaks or all_changes:
                show(str(change))
        if any(change.breaks for change in found):
            return 1
    if content is not None and output is None:
        show_document(content)
    elif content is not None and output is not None:
        write_whole(output, content)
    return 0


def _summary(module: str) -> str:
    """Return the first paragraph of a module's docstring."""
    return (inspect.getdoc(sys.modules[module]) or "").partition("\n\n")[0]


def _version(module: str) -> str:
    """Return the version of an app: as its module says, or a package that it is in, or what was installed."""
    parts = module.split(".")
    for count in range(len(parts), 0, -1):
        version = getattr(sys.modules.get(".".join(parts[:count])), "__version__", None)
        if isinstance(version, str) and version:
            return version
    try:
        return metadata.version(parts[0])
    except (metadata.PackageNotFoundError, ValueError):
        return "0.0.0"


def _servers(deployment: Deployment, given: Iterable[str]) -> dict[str, list[ServerDescription]]:
    """Return the servers to be named, by connector. Raises `ConfigError`, without a URL in it."""
    connectors = {connector.name: connector for connector in deployment.connectors}
    found: dict[str, list[ServerDescription]] = {}
    for text in given:
        name, is_named, url = text.partition("=")
        if not is_named or "://" in name:
            names, url = [*connectors], text
        elif name in connectors:
            names = [name]
        else:
            raise ConfigError(
                f"--server is for connector '{escaped(name, 100)}', which is not there: name one of"
                f" {', '.join(connectors)}"
            )
        for name in names:
            found.setdefault(name, []).append(connectors[name].describe_server(read_url(url, "the file of --server")))
    return found
