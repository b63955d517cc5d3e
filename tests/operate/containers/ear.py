"""Who listens to the containers' app, and orders from it, at a broker that asks for a password."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.mosquitto import find_mosquitto, free_port
from tests.patience import PATIENCE

__all__ = ["PASSWORD", "Ear", "open_broker", "open_ear"]

PASSWORD = "not to be seen"
_USERS = "greenhouse", "ear"


@contextlib.contextmanager
def open_broker(folder: Path) -> Iterator[int]:
    """Run mosquitto on a port of loopback; yield the port."""
    port, passwords, config = free_port(), folder / "passwords", folder / "mosquitto.conf"
    passwords.touch(mode=0o600)
    for user in _USERS:
        subprocess.run([find_mosquitto("mosquitto_passwd"), "-b", str(passwords), user, PASSWORD], check=True)
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous false", f"password_file {passwords}", "user root"]
    config.write_text("\n".join([*lines, "max_queued_messages 0", "log_dest none", ""]))
    with subprocess.Popen([find_mosquitto(), "-c", str(config)]) as broker:
        try:
            _wait_until_it_listens(port)
            yield port
        finally:
            broker.terminate()


def _wait_until_it_listens(port: int) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < until, "mosquitto does not listen"
            time.sleep(0.02)
        else:
            return


class Ear:
    """Hears all that the app publishes, in order."""

    def __init__(self, client: paho.Client) -> None:
        self._client = client
        self._heard = threading.Condition()
        self.numbers: list[int] = []
        self.done: list[str] = []
        self.health = b""
        self.topic = ""
        """Where the health was heard, which has the name that the gateway is known by."""
        client.on_message = self._on_message

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        with self._heard:
            if message.topic == "greenhouse/numbers":
                self.numbers.append(int(message.payload))
            elif message.topic == "greenhouse/done":
                self.done.append(message.payload.decode().strip('"'))
            else:
                self.health, self.topic = bytes(message.payload), message.topic
            self._heard.notify_all()

    def until(self, true: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        with self._heard:
            assert self._heard.wait_for(true, seconds), f"in {seconds:g} s it was not heard that {what}"

    def until_more(self, count: int = 100) -> None:
        """Wait for more numbers than there are."""
        until = len(self.numbers) + count
        self.until(lambda: len(self.numbers) >= until, f"{count} more numbers came; {len(self.numbers)} did")

    def until_health(self, state: bytes) -> None:
        self.until(lambda: state in self.health, f"its health is {state!r}; it was {self.health!r}")

    def order(self, name: str) -> None:
        """Order, whether somebody takes orders now or not."""
        info = self._client.publish("greenhouse/orders", f'"{name}"', qos=1)
        info.wait_for_publish(PATIENCE)
        assert info.is_published()

    def until_done(self, answer: str) -> None:
        self.until(lambda: answer in self.done, f"{answer!r} was answered; {self.done} was")


@contextlib.contextmanager
def open_ear(port: int) -> Iterator[Ear]:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="ear", clean_session=True)
    client.username_pw_set("ear", PASSWORD)
    subscribed = threading.Event()

    def on_connect(client: paho.Client, *_: object) -> None:
        client.subscribe([("greenhouse/numbers", 1), ("greenhouse/done", 1), ("taktora/#", 1)])

    def on_subscribe(client: paho.Client, *_: object) -> None:
        subscribed.set()

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    ear = Ear(client)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert subscribed.wait(PATIENCE)
        yield ear
    finally:
        client.disconnect()
        client.loop_stop()
