"""Deployment: one app plus its connectors, declared once, in the app's module."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import attrs

from taktora_trio.channels import check_name
from taktora_trio.checks import flag, instance_of
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.mqtt.connector import MqttConnector
from taktora_trio.connectors.mqtt.options import BrokerAddress, MqttOptions
from taktora_trio.errors import ConfigError
from taktora_trio.host.host import ConnectorHost
from taktora_trio.supervision.policy import RestartPolicy

if TYPE_CHECKING:  # a supervisor imports this module too, and is to be small
    from taktora_trio.executor import Observer

__all__ = ["App", "Deployment"]

App: TypeAlias = Callable[[ConnectorHost], Awaitable[None]]

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def _connectors(value: Iterable[Connector]) -> tuple[Connector, ...]:
    if isinstance(value, Connector) or not isinstance(value, Iterable):
        raise ConfigError("a deployment's connectors are a list: write [connector]")
    return tuple(value)


def _observers(value: Iterable[Observer]) -> tuple[Observer, ...]:
    return tuple(value)


@attrs.frozen
class Deployment:
    """What an operator runs, in either shape. Nothing in it names the shape. Raises `ConfigError` if it can't work."""

    name: str
    """Also the default domain."""
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

    observers: tuple[Observer, ...] = attrs.field(default=(), kw_only=True, converter=_observers)
    """Told of the gateway's pumps, and of the app's items where it says `Executor(observers=host.observers)`.

    In the split shape each half has its own, for each process imports the module that makes them; with
    `gateway_thread` they are called from two threads.
    """

    def __attrs_post_init__(self) -> None:
        check_name("deployment", self.name)
        by_name = isinstance(self.app, str) and _NAME.fullmatch(self.app)
        if not callable(self.app) and not by_name and self.app is not None:
            raise ConfigError(
                f"deployment {self.name!r}: its app is {self.app!r}; it must be an async function, or the name of one"
                ' as "module:function"'
            )
        if self.observers:
            _check_observers(self.name, self.observers)
        for connector in self.connectors:
            if not isinstance(connector, Connector):
                raise ConfigError(f"deployment {self.name!r}: {connector!r} is no connector: use MqttConnector(...)")
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

    def with_broker(
        self, broker: BrokerAddress | None, ca_file: Path | None = None, password: bytes | None = None
    ) -> Deployment:
        """The same deployment with every MQTT connector at this broker, or else at its own.

        The CA file replaces each one's own; the password goes to a user who has none. Raises `ConfigError` for a
        password that no such user waits for, and for a CA file where no broker has TLS: to do without is not what was
        asked for.
        """
        users = 0

        def changed(options: MqttOptions) -> MqttOptions:
            nonlocal users
            address = broker or options.broker
            if address.username is not None and address.password is None:
                address, users = attrs.evolve(address, password=password), users + 1
            return attrs.evolve(options, broker=address, ca_file=ca_file or options.ca_file)

        connectors = [
            attrs.evolve(connector, options=changed(connector.options))
            if isinstance(connector, MqttConnector)
            else connector
            for connector in self.connectors
        ]
        if password is not None and not users:
            raise ConfigError(
                "a broker password was given, by a file or by TAKTORA_BROKER_PASSWORD, but no broker has a user that"
                " waits for one: name the user, as in mqtt://user@host"
            )
        moved = attrs.evolve(self, connectors=connectors)
        if ca_file is not None and not any(address.tls for address in moved.brokers()):
            raise ConfigError("a CA file was given, but no broker is reached by TLS: write mqtts:// or wss://")
        return moved

    def with_client_id(self, client_id: str | None) -> Deployment:
        """The same deployment with another client id, if it is one: `ID` for its only MQTT connector, `ID-CONNECTOR`
        for each of several. Raises `ConfigError` for what MQTT can't carry."""
        several = sum(isinstance(connector, MqttConnector) for connector in self.connectors) > 1

        def changed(connector: MqttConnector) -> MqttConnector:
            own = f"{client_id}-{connector.name}" if several else client_id
            return attrs.evolve(connector, options=attrs.evolve(connector.options, client_id=own))

        if client_id is None:
            return self
        return attrs.evolve(
            self,
            connectors=[
                changed(connector) if isinstance(connector, MqttConnector) else connector
                for connector in self.connectors
            ],
        )

    def named_by_the_machine(self) -> list[str]:
        """The connectors with a session that lasts and a client id that is made of the machine's name."""
        return [
            connector.name
            for connector in self.connectors
            if isinstance(connector, MqttConnector)
            and connector.options.client_id is None
            and connector.options.session != "memory"
            and connector.session_lasts
        ]

    def with_policies(self, gateway: str | None, plugin: str | None) -> Deployment:
        """The same deployment with some fields of its policies changed, each as `RestartPolicy.changed` reads them."""
        return attrs.evolve(
            self,
            gateway_policy=self.gateway_policy.changed(gateway) if gateway else self.gateway_policy,
            plugin_policy=self.plugin_policy.changed(plugin) if plugin else self.plugin_policy,
        )

    def check_files(self) -> None:
        """Raise `ConfigError` if a file that it names can't be used, before anything is started."""
        for connector in self.connectors:
            if isinstance(connector, MqttConnector):
                connector.options.tls_context()

    def brokers(self) -> list[BrokerAddress]:
        """The brokers that its connectors are to reach over a network."""
        return [
            connector.options.broker
            for connector in self.connectors
            if isinstance(connector, MqttConnector) and connector.options.session != "memory"
        ]


def _check_observers(name: str, observers: Iterable[object]) -> None:
    from taktora_trio.executor import Observer

    for observer in observers:
        if not isinstance(observer, Observer):
            raise ConfigError(f"deployment {name!r}: {observer!r} is no observer: derive it from Observer")
