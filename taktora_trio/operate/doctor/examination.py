"""All checks at once, each bounded in time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import attrs
import trio

from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.finding import Finding, fail, ok
from taktora_trio.connectors.plan import specs_of
from taktora_trio.errors import ConnectorError, summary
from taktora_trio.escaping import escaped
from taktora_trio.operate.doctor.clock import examine_clock
from taktora_trio.operate.doctor.descriptors import examine_limits
from taktora_trio.operate.doctor.disk import examine_disk, examine_state_folder
from taktora_trio.operate.doctor.leftovers import examine_leftovers
from taktora_trio.operate.doctor.packages import examine_packages
from taktora_trio.operate.doctor.python import examine_python
from taktora_trio.operate.doctor.report import Section
from taktora_trio.operate.doctor.shared_memory import examine_shared_memory
from taktora_trio.runners.configuration.reading import Configuration
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.folder import user_folder

__all__ = ["examine"]

_LOCAL = 10.0  # seconds for each check of this machine
_CONNECTOR = 60.0  # seconds for all of a connector, which bounds its own steps
_HANGS = "find out what it waits for: a disk, a file system of the network, or a name server"

Check = Callable[[], Iterable[Finding]]


async def examine(configuration: Configuration | None, trial: str | None = None) -> list[Section]:
    """Run every check of this machine, and, with a configuration, every one of its deployment. All run at once.

    Messages are sent only to the address `trial`.
    """
    specs = specs_of(configuration.configured.connectors) if configuration is not None else []
    runs = configuration is not None and await _runs(configuration.domain)
    local: list[tuple[str, Check]] = [
        ("python", examine_python),
        ("packages", examine_packages),
        ("memory", lambda: examine_shared_memory(specs, runs=runs)),
        ("leftovers", examine_leftovers),
        ("limits", lambda: examine_limits(specs)),
        ("clock", lambda: [examine_clock()]),
        ("state", examine_state_folder),
    ]
    if configuration is not None:
        deployment, domain = configuration.configured, configuration.domain
        local.append(("store", lambda: examine_disk(deployment, domain, runs=runs)))
    checks: list[Callable[[], Awaitable[Sequence[Finding]]]] = [partial(_locally, *one) for one in local]
    connectors = configuration.configured.connectors if configuration is not None else ()
    if configuration is not None:
        checks += [partial(_diagnosed, connector, configuration.domain, trial) for connector in connectors]
    found = await _all(checks)
    sections = [Section("this machine", [one for some in found[: len(local)] for one in some])]
    if configuration is not None:
        sections[0:0] = [Section(f"deployment {configuration.configured.name}", _described(configuration, runs))]
    for connector, findings in zip(connectors, found[len(local) :], strict=True):
        sections += _by_subject(connector, findings)
    return sections


async def _all(checks: Sequence[Callable[[], Awaitable[Sequence[Finding]]]]) -> list[Sequence[Finding]]:
    found: dict[int, Sequence[Finding]] = {}

    async def run(position: int, check: Callable[[], Awaitable[Sequence[Finding]]]) -> None:
        found[position] = await check()

    async with trio.open_nursery() as nursery:
        for position, check in enumerate(checks):
            nursery.start_soon(run, position, check)
    return [found[position] for position in range(len(checks))]


async def _locally(name: str, check: Check) -> Sequence[Finding]:
    """Run a check in a worker thread, which is left behind if it hangs."""

    def whole() -> list[Finding]:
        return list(check())

    with trio.move_on_after(_LOCAL):
        try:
            return await trio.to_thread.run_sync(whole, abandon_on_cancel=True)
        except (OSError, ValueError, ConnectorError) as exc:
            return [fail(name, f"this could not be looked at: {escaped(summary(exc), 300)}", "mend what this says")]
    return [fail(name, f"not done within {_LOCAL:g} s", _HANGS)]


async def _diagnosed(connector: Connector, domain: str, trial: str | None) -> Sequence[Finding]:
    with trio.move_on_after(_CONNECTOR):
        try:
            name = connector.known_as(await trio.to_thread.run_sync(lambda: Domain(domain).identity))
            return await connector.diagnose(name, trial)
        except (OSError, ValueError, ConnectorError) as exc:
            return [fail("connector", escaped(summary(exc), 300), "mend what this says")]
    return [fail("connector", f"not done within {_CONNECTOR:g} s", "check the network, and the other side")]


async def _runs(domain: str) -> bool:
    def holds() -> bool:
        try:
            return user_folder().is_dir() and Domain(domain).is_held
        except (OSError, ConnectorError):  # what is wrong with /dev/shm is found out below
            return False

    with trio.move_on_after(_LOCAL):
        return await trio.to_thread.run_sync(holds, abandon_on_cancel=True)
    return False


def _described(configuration: Configuration, runs: bool) -> list[Finding]:
    file = f"{escaped(str(configuration.file))}, " if configuration.file is not None else ""
    state = "a process of it runs now" if runs else "it does not run now"
    count = sum(len(connector.channels) for connector in configuration.configured.connectors)
    findings = [ok("settings", f"{file}domain {configuration.domain}; {state}; {count} channels")]
    try:
        configuration.configured.check_files()
    except ConnectorError as exc:
        findings.append(fail("files", escaped(str(exc), 300), "mend what this says: a run would not start"))
    return findings


def _by_subject(connector: Connector, findings: Sequence[Finding]) -> list[Section]:
    """Return a section for each subject, such as each of several addresses of a peer."""
    sections: dict[str, list[Finding]] = {}
    for finding in findings:
        sections.setdefault(finding.subject, []).append(attrs.evolve(finding, subject=""))
    title = f"connector {connector.name}"
    return [Section(f"{title}: {subject}" if subject else title, some) for subject, some in sections.items()]
