"""The `config` command: what a deployment is configured to be, where each value came from, and a file to begin with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import attrs
import msgspec

from taktora_trio.channels import Store
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.settings import Setting, SettingValue
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.configuration.app_settings import NOTHING, AppField, app_fields
from taktora_trio.runners.configuration.fields import spelled
from taktora_trio.runners.configuration.given import Given
from taktora_trio.runners.configuration.keys import keys, settings_of
from taktora_trio.runners.configuration.reading import Configuration, effective
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.loading import load_settings_class
from taktora_trio.runners.secrets import carries_secret
from taktora_trio.supervision.policy import BACKOFF_FIELDS

__all__ = ["Shown", "app_fields_of", "as_json", "as_text", "masked", "shown", "value_of"]

SECRET = "***"  # noqa: S105 - it stands for one
DEFAULT = "default"


class Shown(msgspec.Struct, frozen=True):
    """A key with its value, fit to be seen, and where that came from."""

    key: str
    value: Any
    origin: str


def shown(configuration: Configuration, *, whole: bool = False) -> Iterator[Shown]:
    """Yield every key in the order of a file, without secrets; with `whole`, a store's too where there is none."""
    deployment = configuration.configured
    given = effective(configuration.given)
    for key, value in _general(configuration).items():
        if key.startswith("store.") and deployment.store is None and not whole:
            continue
        yield Shown(key, masked(value), given[key].origin if key in given else DEFAULT)
    for connector in deployment.connectors:
        values = configuration.settings.of(connector)
        for name, setting in sorted(settings_of(connector).items(), key=lambda one: one[0]):
            value = values.get(name)
            origin = DEFAULT if value is None else _origin(setting, value)
            yield Shown(f"connector.{connector.name}.{name}", _of_setting(connector, setting, value), origin)
    apps = _origins_of_app(configuration.app)
    for field in app_fields_of(deployment):
        value = value_of(deployment, field)
        hidden = not field.is_shown and value not in (None, "")
        yield Shown(field.key, SECRET if hidden else masked(value), apps.get(_plain(field.key), DEFAULT))


def app_fields_of(deployment: Deployment) -> list[AppField]:
    """Return the fields of the app's settings; none where it has none."""
    return [] if deployment.settings is None else list(app_fields(load_settings_class(deployment)))


def value_of(deployment: Deployment, field: AppField) -> Any:
    """Return the value of an app's setting; `None` where it has to be given, and was not."""
    try:
        value = deployment.app_settings
    except ConfigError:
        value = None
    if value is None:
        return None if field.default is NOTHING or callable(field.default) else field.default
    for name in field.path:
        value = getattr(value, name)
    return value


def masked(value: Any) -> Any:
    """Return a value as it may be seen, of types that JSON has: without what is secret in a URL."""
    if isinstance(value, str):
        return _masked(value)
    if isinstance(value, Mapping):
        return {str(key): masked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum):
        return masked(value.value)
    if attrs.has(type(value)) and hasattr(value, "initial"):  # a Backoff
        return attrs.asdict(value)
    text = _masked(str(value))
    if getattr(value, "password", None) is not None and SECRET not in text:  # an address, whose text leaves it out
        return text.replace("@", f":{SECRET}@", 1)
    return text


def as_text(lines: list[Shown]) -> str:
    """Return a table: key, value and origin."""
    rows = [(one.key, "none" if one.value is None else literal(one.value), one.origin) for one in lines]
    keys, values = (max((len(row[column]) for row in rows if len(row[column]) <= 60), default=0) for column in (0, 1))
    return "\n".join(f"{key:<{keys}}  {value:<{values}}  {escaped(origin)}" for key, value, origin in rows)


def as_json(lines: list[Shown]) -> str:
    """Return a list of objects with `key`, `value` and `origin`."""
    return json.dumps([msgspec.to_builtins(one) for one in lines], indent=2)


def literal(value: Any) -> str:
    """Return a value as it is written in TOML."""
    if value is None:
        return '"none"'
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {literal(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, float):
        return repr(value)  # also inf and nan, as TOML has them
    return json.dumps(value)


def _masked(text: str) -> str:
    if not carries_secret(text):
        return text
    scheme, _, rest = text.partition("://")
    login, at, host = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    path, asked, _ = host.partition("?")
    return f"{scheme}://{user}{f':{SECRET}' if colon else ''}{at}{path}{f'?{SECRET}' if asked else ''}"


def _general(configuration: Configuration) -> dict[str, Any]:
    """Return the value of each key that every deployment has."""
    deployment = configuration.configured
    values: dict[str, Any] = {
        "domain": configuration.domain,
        "await-peer": configuration.await_peers,
        "warm": configuration.warm,
        "reload-timeout": configuration.reload_timeout,
        "endpoint": None if configuration.endpoint is None else configuration.endpoint.address,
        "endpoint-page": configuration.endpoint is not None and configuration.endpoint.page,
        "endpoint-token-file": None if configuration.endpoint is None else configuration.endpoint.token_file,
        "gateway-thread": deployment.gateway_thread,
        "flight-recorder": deployment.flight_recorder,
        "log.format": configuration.log,
        "log.level": configuration.level,
    }
    for key in keys():
        *tables, name = key.replace("-", "_").split(".")
        table, *rest = tables or [""]
        if table == "store":
            values[key] = getattr(deployment.store or Store(), name)
        elif table == "policy":
            policy = getattr(deployment, f"{rest[0]}_policy")
            values[key] = getattr(policy.backoff if name in BACKOFF_FIELDS else policy, name)
        elif table == "fence":
            values[key] = getattr(getattr(configuration.fences, rest[0]), name)
    return values


def _of_setting(connector: Connector, setting: Setting, value: SettingValue | None) -> Any:
    if setting.kind == "secret":
        return None if value is None else SECRET
    if value is not None and value.text in setting.words:
        return value.text
    for field in attrs.fields(type(connector.options)):
        if setting.name in (spelled(field.name), spelled(field.alias or field.name)):
            own = masked(getattr(connector.options, field.name))
            return own[0] if setting.repeatable and isinstance(own, list) and len(own) == 1 else own
    return None if value is None else masked(value.text)


def _origin(setting: Setting, value: SettingValue) -> str:
    return value.file or value.variable or setting.option


def _origins_of_app(given: tuple[Given, ...]) -> dict[str, str]:
    """Return where each of the app's settings was given last."""
    origins: dict[str, str] = {}

    for one in sorted(given, key=lambda one: one.source):
        origins |= {_plain(key): origin for key, origin in {one.key: one.origin, **one.places}.items()}
    return origins


def _plain(key: str) -> str:
    """Return a key of the app's, or its variable, in one spelling."""
    return key.removeprefix("app.TAKTORA_").replace(".", "_").replace("-", "_").lower()
