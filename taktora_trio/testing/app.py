"""`open_app`: an app under test, with all that is outside it in the test's hands."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import trio
from trio_util import move_on_when

from taktora_trio.channels import Inbound, Metadata, Outbound
from taktora_trio.errors import ConfigError, collapse, leaves, summary
from taktora_trio.health import ConnectorHealth, Degraded, Up
from taktora_trio.host.host import ConnectorHost
from taktora_trio.runners.configuration.from_program import ProgramSettings
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.loading import load_deployment
from taktora_trio.testing.backend import Backend, Broker, Run, Shape, backend_for
from taktora_trio.testing.finding import encode, find_connector, find_inbound, find_outbound
from taktora_trio.testing.journal import Journal, Sent

__all__ = ["AppUnderTest", "NothingCame", "OpenApp", "open_app"]

PATIENCE = 20.0  # seconds: long for a busy machine, and in memory they take no time
_LAST = 5  # messages that an error shows


class NothingCame(AssertionError):
    """What a test has waited for did not come in time. The text says what came instead, and how the app is."""


@contextlib.asynccontextmanager
async def open_app(
    deployment: Deployment | str,
    shape: Shape = "memory",
    *,
    broker: Broker = None,
    settings: ProgramSettings | None = None,
) -> AsyncIterator[AppUnderTest]:
    """Run a deployment's app for as long as the block lasts, with everything outside it in the test's hands.

    In the shape `"memory"` all of it is in this task tree: the app, the real host, channels and gateway, and a broker
    that is a Python object. There is no shared memory, no file, no socket and no process, so that a test takes
    milliseconds. With `trio.testing.MockClock(autojump_threshold=0)` time jumps to what happens next. `"in-process"`
    and `"split"` run the same test with a real broker, in the shapes in which an operator runs the deployment: `broker`
    is its URL, or one for each connector by its name. By default the test has brokers of its own, one for each that the
    deployment names. The gateway reaches them by a network in between, which fails as the test says.

    `settings` are those of an operator, by their names at the command line, as `{"app.low": "12"}`. What the
    environment or a file says of settings does not count.

    At the end of the block the app is stopped as by a signal. What it raised before, the block raises. An app that
    returns ends well, and the test goes on. Where the deployment has no app (`app=None`), the test is the app: it has
    the `host`.

    `deployment` may be named as "module:attribute". Raises `ConfigError` for what can't be tested so.
    """
    if not trio.lowlevel.in_trio_run():
        raise ConfigError("open_app runs on trio: call it in trio.run(...), or take the fixture open_app")
    declared = load_deployment(deployment) if isinstance(deployment, str) else deployment
    if not isinstance(declared, Deployment):
        raise ConfigError(f"open_app tests a Deployment, not {declared!r}: write open_app(deployment)")
    scope = trio.CancelScope()
    run = Run(
        Journal(declared.connectors), scope, deployment if isinstance(deployment, str) else None, broker, settings
    )
    failure: BaseException | None = None  # the test's own
    try:
        async with backend_for(shape)(declared, run) as backend:
            try:
                with scope:
                    yield AppUnderTest(backend, run)
            except BaseException as exc:
                if any(isinstance(leaf, trio.Cancelled | GeneratorExit) for leaf in leaves(exc)):
                    raise
                failure = exc  # raised as it is below, and not in a group
    except Exception as exc:  # noqa: BLE001 - it is raised, or told of by what is
        if failure is None and run.failure is None:
            raise collapse(exc) from exc.__cause__
        (failure or run.failure or exc).add_note(f"the end of the run raised, too: {summary(exc)}")
    if failure is not None:
        if run.failure is not None and run.failure is not failure:
            failure.add_note(f"the app has failed, too: {summary(run.failure)}")
        raise failure
    if run.failure is not None:
        raise run.failure


class AppUnderTest:
    """An app that runs, and what is outside it. Use `open_app`.

    Where a deployment has several connectors, `connector` is the name of the one that is meant. `None` stands for all
    of them, or for the first where only one can be meant.
    """

    __test__ = False  # pytest takes no tests from it

    def __init__(self, backend: Backend, run: Run) -> None:
        self._backend = backend
        self._run = run
        self._journal = run.journal
        self._connected: set[str] = set()

    def __repr__(self) -> str:
        return f"<AppUnderTest: {self._how_it_is()}>"

    # What the app gets

    async def publish(
        self,
        to: str | Inbound[Any],
        value: object,
        *,
        connector: str | None = None,
        metadata: Metadata | None = None,
        correlation_id: bytes = b"",
        retain: bool = False,
        timeout: float = PATIENCE,  # noqa: ASYNC109 - it raises what a cancel scope could not
        **options: Any,
    ) -> None:
        """Publish a message to the app, as somebody else would.

        `to` is a topic that the app has subscribed to, or one of its inbound channels. `value` is of the channel's
        type, or bytes: the payload as it is, right or wrong. A channel that is itself of bytes has them as a value, in
        its codec's format. `options` are the protocol's own; by default the message comes with the guarantee that the
        app's channel asks for.

        With `connector` it is published there alone, where several have subscribed to the topic.

        The first message waits until the app's gateway has subscribed, so that none is lost for want of a subscriber.

        Raises `ConfigError` for a topic that no channel of the app's is for, `CodecError` for a value of another type,
        and `NothingCame` if the gateway does not connect in `timeout` seconds.
        """
        connectors = self._backend.connectors
        if connector is not None:
            connectors = {connector: connectors[find_connector(connectors, connector)]}
        found, topic = find_inbound(connectors, to, value)
        payload = encode(found, value)
        for name in dict.fromkeys(one.name for one, _ in found):
            if metadata is not None or correlation_id:
                connectors[name].check_carries_metadata()
            if name not in self._connected:
                await self.wait_for_health(Up, Degraded, connector=name, timeout=timeout)
                self._connected.add(name)
            await self._backend.publish(
                name,
                topic,
                payload,
                metadata=metadata,
                correlation_id=correlation_id,
                retain=retain,
                **options,
            )

    @property
    def host(self) -> ConnectorHost:
        """The host of a deployment without an app (`app=None`), where the test is the app.

        Raises `ConfigError` where the deployment has an app, which has the host.
        """
        return self._backend.host

    # What it sends

    async def expect(
        self,
        what: str | Outbound[Any],
        *,
        where: Callable[[Sent], bool] | None = None,
        timeout: float = PATIENCE,  # noqa: ASYNC109 - it raises what a cancel scope could not
    ) -> Sent:
        """Return the next message that the app publishes and that fits; the first that was not expected yet.

        `what` is an outbound channel or its name, or a topic, or a pattern of topics as the protocol has it; `where`
        says more of what fits, such as `lambda sent: sent.value.on`. Messages that don't fit are left for those who
        expect them.

        Raises `NothingCame`, with what came instead, after `timeout` seconds, or when the app has ended. Raises
        `ConfigError` for what the app can't publish.
        """
        meant = find_outbound(self._backend.connectors, what, self._journal.all)

        def fits(sent: Sent) -> bool:
            return meant(sent) and (where is None or where(sent))

        await trio.lowlevel.checkpoint()
        with trio.move_on_after(timeout):
            while True:
                if (sent := self._journal.take(fits)) is not None:
                    return sent
                if self._run.has_ended:
                    break
                await self._journal.wait()
        name = what if isinstance(what, str) else what.name
        fresh = self._journal.fresh[-_LAST:]
        instead = "".join(f"\n    {sent}" for sent in fresh)
        came = f"what came and was not expected yet:{instead}" if fresh else "nothing else came"
        late = "" if self._run.has_ended else f" within {timeout:g} s"
        raise NothingCame(f"nothing came on {name!r}{late}; {self._how_it_is()}; {came}")

    def sent(self, what: str | Outbound[Any] | None = None) -> list[Sent]:
        """Return all that the app has published so far, or what of it fits, as for `expect`; expected or not."""
        if what is None:
            return list(self._journal.all)
        fits = find_outbound(self._backend.connectors, what, self._journal.all)
        return [sent for sent in self._journal.all if fits(sent)]

    # How it is

    def health(self, connector: str | None = None) -> ConnectorHealth:
        """Return the connector's health, as the app sees it."""
        return self._backend.states()[find_connector(self._backend.connectors, connector)]

    async def wait_for_health(
        self,
        *kinds: type[ConnectorHealth],
        connector: str | None = None,
        timeout: float = PATIENCE,  # noqa: ASYNC109 - it raises what a cancel scope could not
    ) -> ConnectorHealth:
        """Wait until the connector's health is of one of these kinds, and return it; at once if it is already.

        Raises `NothingCame` after `timeout` seconds, or when the app has ended.
        """
        name = find_connector(self._backend.connectors, connector)
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, ConnectorHealth)):
                raise ConfigError(f"{kind!r} is no kind of health: name Up, Connecting, Degraded or Down")
        with trio.move_on_after(timeout):
            async with move_on_when(self._until_ended):
                return await self._backend.wait_for_health(name, kinds)
        wanted = " or ".join(kind.__name__ for kind in kinds)
        late = "" if self._run.has_ended else f" within {timeout:g} s"
        raise NothingCame(f"connector {name!r} was not {wanted}{late}; {self._how_it_is()}")

    @property
    def has_ended(self) -> bool:
        """True if the app has returned, and the run is over."""
        return self._run.has_ended

    async def wait_until_ended(self, timeout: float = PATIENCE) -> None:  # noqa: ASYNC109 - as above
        """Wait until the app has returned by itself, and all that it has sent is published.

        Raises `NothingCame` after `timeout` seconds.
        """
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(timeout):
            await self._until_ended()
            return
        raise NothingCame(f"the app has not ended within {timeout:g} s; {self._how_it_is()}")

    # What goes wrong

    def cut(self, connector: str | None = None) -> None:
        """Cut the connection. The gateway connects again by its backoff."""
        self._backend.cut(self._names(connector))

    def unreachable(self, connector: str | None = None) -> AbstractAsyncContextManager[None]:
        """Cut the connection, and have the broker out of reach during the block: `async with app.unreachable()`."""
        return self._backend.unreachable(self._names(connector))

    def refused(self, connector: str | None = None) -> AbstractAsyncContextManager[None]:
        """Cut the connection, and have the broker refuse the login while the block lasts: `async with app.refused()`.

        The gateway is `Down` then, and tries again after minutes; after the block `await app.revive()` has it try at
        once.
        """
        return self._backend.refused(self._names(connector))

    def slow(self, seconds: float, connector: str | None = None) -> AbstractAsyncContextManager[None]:
        """Have the broker take so long for each acknowledgement during the block: `async with app.slow(seconds)`.

        Messages that nobody acknowledges, since they arrive at most once, are not held up.
        """
        return self._backend.slow(self._names(connector), seconds)

    def full(self, connector: str | None = None) -> AbstractAsyncContextManager[None]:
        """Have the broker acknowledge nothing while the block lasts, so that the app's channels fill up.

        Then `await writer.send()` waits, `send_nowait()` raises `BackPressure`, and health is `Degraded`. Channels
        whose messages arrive at most once have no acknowledgements, and don't fill.
        """
        return self._backend.slow(self._names(connector), math.inf)

    def kill_gateway(self) -> None:
        """End the gateway as by a crash. The app sees `Down`, and the gateway starts again by its policy."""
        self._backend.kill_gateway()

    async def revive(self) -> None:
        """Have the gateway start again if it was given up, and else connect at once, as an operator can."""
        await self._backend.revive()

    # Parts

    def _names(self, connector: str | None) -> list[str]:
        connectors = self._backend.connectors
        return list(connectors) if connector is None else [find_connector(connectors, connector)]

    async def _until_ended(self) -> None:
        while not self._run.has_ended:
            await self._journal.wait()

    def _how_it_is(self) -> str:
        if self._run.failure is not None:
            return f"the app has failed: {summary(self._run.failure)}"
        if self._run.has_ended:
            return "the app has returned"
        states: Mapping[str, ConnectorHealth] = self._backend.states()
        return "health: " + ", ".join(f"{name} {state}" for name, state in states.items())


OpenApp: TypeAlias = Callable[..., AbstractAsyncContextManager[AppUnderTest]]
"""The type of the fixture `open_app`: the function of that name, in the shape that the test runs in."""
