"""Deployment: one app plus its connectors, declared once, in the app's module."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from taktora_trio.channels import ChannelDescriptor, Store, check_name
from taktora_trio.checks import flag, instance_of, is_async_function, one_of, optional
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.dead_letters.letter import check_dead_letters
from taktora_trio.connectors.storing.stores import ConnectorStore, check_stores, inbound_stores_of, stores_of
from taktora_trio.errors import ConfigError
from taktora_trio.statefolder import deployment_folder
from taktora_trio.supervision.policy import RestartPolicy

if TYPE_CHECKING:  # a supervisor imports this module too, and is to be small
    from taktora_trio.executor import Observer
    from taktora_trio.host.host import ConnectorHost

_CO_ASYNC_GENERATOR = 0x200  # inspect.CO_ASYNC_GENERATOR
__all__ = ["App", "Deployment"]

App: TypeAlias = Callable[["ConnectorHost"], Awaitable[None]]

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def _connectors(value: Iterable[Connector]) -> tuple[Connector, ...]:
    # Anything else stays as it is, for `_check_connectors`.
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else value


def _observers(value: Iterable[Observer]) -> tuple[Observer, ...]:
    return tuple(value)


@attrs.frozen
class Deployment:
    """An app and its connectors, which an operator runs in either shape. Raises `ConfigError` if it can't work."""

    name: str
    """The deployment's name, and its domain where the operator names no other."""
    app: App | str | None
    """Called with a `ConnectorHost`; the deployment ends when it returns.

    Given by name, as `"greenhouse.app:main"`, it is imported by the process that runs it, and by no other: neither the
    gateway nor a supervisor loads the app or what it needs. `None` is for a deployment that is only used by
    `open_deployment`.
    """
    connectors: tuple[Connector, ...] = attrs.field(converter=_connectors)
    # A gateway never ends of its own accord, so whenever it does, that is a failure.
    gateway_policy: RestartPolicy = attrs.field(
        default=RestartPolicy(restart="always", stop_grace=2.5), kw_only=True, validator=instance_of(RestartPolicy)
    )
    plugin_policy: RestartPolicy = attrs.field(
        default=RestartPolicy(restart="on-failure"), kw_only=True, validator=instance_of(RestartPolicy)
    )
    gateway_thread: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """In-process, run the gateway in a thread with a loop of its own: a blocking call in it does not stall the app.

    In the split shape, where it has a process of its own, this changes nothing.
    """

    flight_recorder: Literal["off", "on", "messages"] = attrs.field(
        default="off", kw_only=True, validator=one_of("off", "on", "messages")
    )
    """With `"on"`, the last log lines, changes of health and vitals of each half are kept in shared memory, and written
    to a file when a connector is `Down` or the plugin has failed; with `"messages"`, the last messages too."""

    store: Store | None = attrs.field(default=None, kw_only=True, validator=optional(instance_of(Store)))
    """How the gateway keeps outbound messages on disk until the other side has acknowledged them; `None` for not at
    all. It is for each channel whose messages are acknowledged and that says nothing else (`Outbound.store`)."""

    observers: tuple[Observer, ...] = attrs.field(default=(), kw_only=True, converter=_observers)
    """Notified of the gateway's pumps, and of the app's items where it says `Executor(observers=host.observers)`.

    In the split shape each half has its own, for each process imports the module that makes them; with
    `gateway_thread` they are called from two threads.
    """

    settings: type[Any] | str | None = attrs.field(default=None, kw_only=True)
    """The class of the app's own settings: an attrs class, a dataclass or a msgspec struct. An operator gives them by a
    file (`[app]`), by the environment (`TAKTORA_APP_...`) or by options (`--app.NAME`), and the app has them as
    `host.settings`. By name, as `"greenhouse.app:Settings"`, it is imported where the app runs, and nowhere else."""

    chosen_settings: Any = attrs.field(default=None, kw_only=True, repr=False)
    """What an operator has given, as an object of that class. A runner sets it."""

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ConfigError("a deployment's name comes first: write Deployment(name, app, [connector])")
        check_name("deployment", self.name)
        try:
            _check_app(self.app)
            _check_settings(self.settings)
            _check_connectors(self.connectors)
        except ConfigError as exc:
            raise ConfigError(f"deployment {self.name!r}: {exc}") from None
        if self.observers:
            _check_observers(self.name, self.observers)
        if not self.connectors:
            raise ConfigError(f"deployment {self.name!r} has no connectors: give it at least one")
        names = [connector.name for connector in self.connectors]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"deployment {self.name!r} has two connectors named {name!r}: rename one")
        seen: set[int] = set()
        for connector in self.connectors:
            for channel in connector.channels:
                if id(channel) in seen:
                    raise ConfigError(f"channel {channel.name!r} is in two connectors: declare one for each")
                seen.add(id(channel))
        try:
            check_stores(self.connectors, self.store)
        except ConfigError as exc:
            raise ConfigError(f"deployment {self.name!r}: {exc}") from None

    def with_policies(self, gateway: str | None, plugin: str | None) -> Deployment:
        """Return the deployment with some fields of its policies changed, as `RestartPolicy.changed` reads them."""
        return attrs.evolve(
            self,
            gateway_policy=self.gateway_policy.changed(gateway) if gateway else self.gateway_policy,
            plugin_policy=self.plugin_policy.changed(plugin) if plugin else self.plugin_policy,
        )

    def with_settings(self, settings: object) -> Deployment:
        """Return the deployment with these settings of its app, an object of the class that it declares.

        Raises `ConfigError` for anything else. A class that is given by name is not imported for that.
        """
        if self.settings is None:
            raise ConfigError(
                f"deployment {self.name!r} has no settings: declare their class, Deployment(settings=...)"
            )
        if isinstance(self.settings, type) and not isinstance(settings, self.settings):
            name = self.settings.__name__
            given = (
                f"the class {settings.__name__}"
                if isinstance(settings, type)
                else f"an object of {type(settings).__name__}"
            )
            raise ConfigError(f"deployment {self.name!r}: its settings are {given}: give an object, {name}(...)")
        return attrs.evolve(self, chosen_settings=settings)

    @property
    def app_settings(self) -> Any:
        """The app's settings: those that were chosen, or else the defaults of its class; `None` if it has none.

        Raises `ConfigError` where the class has no default for one of them.
        """
        if self.chosen_settings is not None or not isinstance(self.settings, type):
            return self.chosen_settings
        try:
            return self.settings()
        except TypeError as exc:
            raise ConfigError(f"deployment {self.name!r}: {self.settings.__name__} has no default: {exc}") from None

    def with_connectors(self, names: Collection[str]) -> Deployment:
        """Return the same deployment with these connectors alone. Raises `ConfigError` for one that there is not."""
        there = [connector.name for connector in self.connectors]
        for name in names:
            if name not in there:
                raise ConfigError(f"deployment {self.name!r} has no connector {name!r}: name one of {', '.join(there)}")
        return attrs.evolve(self, connectors=[one for one in self.connectors if one.name in names])

    def folder(self, domain: str) -> Path:
        """Return the folder in which a run under this domain keeps what is on disk. Raises `OSError` without a home."""
        return deployment_folder(domain, self.store.path if self.store is not None else None)

    def with_store(self, path: Path | None) -> Deployment:
        """Return the deployment with its store in this folder, and with a store if it has none. `None` changes nothing.

        A channel that names a folder of its own keeps it.
        """
        return self if path is None else attrs.evolve(self, store=attrs.evolve(self.store or Store(), path=path))

    def stores(self, domain: str) -> dict[str, ConnectorStore]:
        """Return the stores of a run under this domain, by connector; none for one that keeps nothing on disk.

        Raises `ConfigError` where no folder is given and there is no home.
        """
        return stores_of(self.connectors, self.store, domain)

    def inbound_stores(self, domain: str) -> dict[str, ConnectorStore]:
        """Return the stores of inbound channels that acknowledge a message when it is stored, by connector.

        Raises `ConfigError` where the deployment has no store.
        """
        return inbound_stores_of(self.connectors, self.store, domain)

    def check_stores(self, domain: str) -> None:
        """Raise `ConfigError` if a store can't be used, before anything is started. Blocks on the disk."""
        with contextlib.suppress(OSError):  # no home, which matters when there is a dead letter
            check_dead_letters(self.folder(domain))
        stores = [*self.stores(domain).values(), *self.inbound_stores(domain).values()]
        if stores:
            from taktora_trio.store import check_store  # most deployments have none

            for store in stores:
                check_store(store.folder, identity=store.identity)

    def check_files(self) -> None:
        """Raise `ConfigError` if a file that a connector names can't be used, before anything is started."""
        for connector in self.connectors:
            connector.check_files()


def _check_app(app: object) -> None:
    """Raise `ConfigError` for what can't be an app, saying what was probably meant."""
    if isinstance(app, CoroutineType):
        app.close()  # else Python warns that it was never awaited
        raise ConfigError(f"its app is called: write {app.__qualname__}, without parentheses")
    if isinstance(app, Connector | Iterable) and not isinstance(app, str | bytes):
        raise ConfigError("its app comes first, and then its connectors: write Deployment(name, app, [connector])")
    if isinstance(app, type):
        raise ConfigError(f"its app is the class {app.__name__}; it must be an async function that takes the host")
    if app is None or (isinstance(app, str) and _NAME.fullmatch(app)):
        return
    if not callable(app):
        raise ConfigError(f'its app is {app!r}; it must be an async function, or the name of one as "module:function"')
    if isinstance(app, FunctionType) and app.__code__.co_flags & _CO_ASYNC_GENERATOR:
        raise ConfigError(f"its app {app.__name__} has a `yield`, and is a generator so; it must be an async function")
    if isinstance(app, FunctionType) and not _may_return_awaitable(app):
        raise ConfigError(f"its app {app.__name__} is no async function: write `async def {app.__name__}(host)`")


def _check_settings(settings: object) -> None:
    """Raise `ConfigError` for what is no class of settings."""
    if settings is None or (isinstance(settings, str) and _NAME.fullmatch(settings)):
        return
    if isinstance(settings, type) and (
        attrs.has(settings) or hasattr(settings, "__dataclass_fields__") or hasattr(settings, "__struct_fields__")
    ):
        return
    if not isinstance(settings, type | str) and hasattr(type(settings), "__init__"):
        what = f"an object of {type(settings).__name__}: give the class"
    else:
        what = repr(settings)
    raise ConfigError(
        f"its settings are {what}; they must be an attrs class, a dataclass or a msgspec struct, or its name as"
        ' "module:Class"'
    )


def _may_return_awaitable(app: FunctionType) -> bool:
    """Return whether a call may give something to await: a lambda and a decorated function may pass on a coroutine."""
    return is_async_function(app) or app.__name__ == "<lambda>" or hasattr(app, "__wrapped__")


def _check_connectors(connectors: object) -> None:
    if isinstance(connectors, Connector) or not isinstance(connectors, tuple):
        raise ConfigError("a deployment's connectors are a list: write [connector]")
    for connector in connectors:
        if isinstance(connector, ChannelDescriptor):
            raise ConfigError(
                f"{connector.name!r} is a channel, and is no connector: write [C([channel])], with the connector"
                " class of your protocol for C"
            )
        if isinstance(connector, type) and issubclass(connector, Connector):
            raise ConfigError(f"{connector.__name__} is a class, and is no connector: write {connector.__name__}(...)")
        if not isinstance(connector, Connector):
            raise ConfigError(f"{connector!r} is no connector: give one of your protocol's class")


def _check_observers(name: str, observers: Iterable[object]) -> None:
    from taktora_trio.executor import Observer

    for observer in observers:
        if not isinstance(observer, Observer):
            raise ConfigError(f"deployment {name!r}: {observer!r} is no observer: derive it from Observer")
