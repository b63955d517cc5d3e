"""SubscriptionRecord: on disk, the filters of a client's session, for the next version of its deployment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.topics import check_filter
from taktora_trio.digest import sha256
from taktora_trio.errors import ConfigError
from taktora_trio.statefolder import make_private, state_folder

__all__ = ["SubscriptionRecord", "record_of"]

_LARGEST = 2**20  # bytes of a file that is read


class _Content(msgspec.Struct):
    client_id: str
    broker: str
    filters: list[str]


class SubscriptionRecord:
    """The file of one client at one broker: by both together a broker knows a session. Its calls block on the disk."""

    def __init__(self, client_id: str, broker: str) -> None:
        self._client_id, self._broker = client_id, broker

    @property
    def path(self) -> Path:
        """The file. Raises `OSError`."""
        name = sha256(f"{self._broker}\n{self._client_id}".encode()).hexdigest()[:20]
        return state_folder() / "subscriptions" / f"{name}.json"

    def remove(self) -> None:
        """Remove the file, if there is one. Raises `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def read(self) -> set[str]:
        """Return the filters that were written last. Raises `OSError`, also for a file that is damaged."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_LARGEST + 1)
        except FileNotFoundError:
            return set()
        try:
            content = msgspec.json.decode(data, type=_Content)
            for topic_filter in content.filters:
                check_filter(topic_filter)
        except (msgspec.MsgspecError, UnicodeError, ConfigError) as exc:
            raise OSError(f"{self.path} is damaged: remove it") from exc
        return set(content.filters)

    def write(self, filters: Iterable[str]) -> None:
        """Replace the file, all of it or nothing. Raises `OSError`."""
        path = self.path
        make_private(path.parent)
        data = msgspec.json.encode(_Content(self._client_id, self._broker, sorted(filters)))
        name = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            name.replace(path)
        except BaseException:
            name.unlink(missing_ok=True)
            raise


def record_of(options: MqttOptions) -> SubscriptionRecord | None:
    """Return the record of a session that outlives this process; `None` for another one."""
    if not options.persistent or options.client_id is None or options.session == "memory":
        return None
    broker = options.broker
    return SubscriptionRecord(
        options.client_id, broker.path if broker.transport == "unix" else f"{broker.host}:{broker.port}"
    )
