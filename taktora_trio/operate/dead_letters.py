"""What `taktora-trio dead-letters` does: list, show, export, send again, discard."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import msgspec

from taktora_trio.connectors.dead_letters.file import DeadLetterFile
from taktora_trio.connectors.dead_letters.letter import DEAD_LETTERS, DeadLetter, check_dead_letters
from taktora_trio.errors import ConfigError, NoSuchDomain
from taktora_trio.escaping import escaped
from taktora_trio.runners.configuration.reading import Sources, read_keys
from taktora_trio.runners.loading import load_deployment
from taktora_trio.runners.options import given_store
from taktora_trio.runners.parts.revival import ask_to_revive
from taktora_trio.runners.this_process.outcome import complain, show
from taktora_trio.statefolder import deployment_folder
from taktora_trio.transport.domain import Domain

__all__ = ["Which", "discard_letters", "export_letters", "list_letters", "send_letters", "show_letters"]

_NUMBERS = re.compile(r"(\d{1,15})(?:-(\d{1,15}))?")
_SHOWN = 16 * 1024  # bytes of a payload that `show` shows
_ROW = 16  # bytes in a line of hex
_WIDTH = 60  # characters of a cell


@attrs.frozen
class Which:
    """The letters that a command is to work on."""

    domain: Domain
    file: DeadLetterFile
    numbers: tuple[range, ...]
    channel: str | None
    everything: bool

    @classmethod
    def of(
        cls,
        what: Iterable[str],
        domain: str | None,
        channel: str | None,
        everything: bool,
        store: str | None,
        config: str | None = None,
        *,
        or_all: bool,
    ) -> Which:
        """Return what the words and options of a command line stand for. Raises `ConfigError`.

        `store` is the folder that the run was given, if any. Unless `or_all`, it must be said which letters are meant.
        """
        targets = [word for word in what if not _NUMBERS.fullmatch(word)]
        numbers = tuple(_range(match) for word in what if (match := _NUMBERS.fullmatch(word)))
        if len(targets) > 1:
            raise ConfigError(
                f"'{escaped(targets[1])}' is no number of a letter: write 7 or 7-12;"
                " `taktora-trio dead-letters list` shows them"
            )
        if not (numbers or channel or everything or or_all):
            raise ConfigError("say which dead letters: their numbers, --channel NAME, or --all")
        if everything and (numbers or channel):
            raise ConfigError("--all is all that there are: give no numbers and no --channel with it")
        deployment = load_deployment(targets[0]) if targets else None
        if deployment is not None:
            typed = () if store is None else (("store", store),)
            deployment, configured = read_keys(deployment, Sources(typed=typed, config=config, default=True))
            domain = configured if domain is None else domain
        elif domain is None:
            raise ConfigError("say which deployment: MODULE:DEPLOYMENT, or --domain NAME")
        where = Domain(domain)
        try:
            if deployment is None:
                folder = deployment_folder(where.name, given_store(store))
            else:
                folder = deployment.folder(where.name)
        except OSError as exc:
            raise ConfigError(f"there is no folder for dead letters ({exc}): set STATE_DIRECTORY") from exc
        check_dead_letters(folder)
        return cls(where, DeadLetterFile(folder / DEAD_LETTERS), numbers, channel, everything)

    def letters(self) -> list[tuple[DeadLetter, int]]:
        """Return these letters without their payloads, and the size of each. Raises `ConfigError` if one is missing."""
        found = self.file.all()
        there = {letter.number for letter, _ in found}
        for wanted in self.numbers:
            if not any(number in there for number in wanted):
                raise ConfigError(f"there is no dead letter {_text(wanted)} in {escaped(str(self.file.path), 400)}")
        return [(letter, size) for letter, size in found if self._includes(letter)]

    def whole(self) -> Iterator[DeadLetter]:
        """Yield these letters with their payloads, one in memory at a time."""
        for letter, _ in self.letters():
            if (whole := self.file.get(letter.number)) is not None:  # else it was removed just now
                yield whole

    def _includes(self, letter: DeadLetter) -> bool:
        return (not self.numbers or any(letter.number in wanted for wanted in self.numbers)) and (
            self.channel is None or letter.channel == self.channel
        )


def _range(match: re.Match[str]) -> range:
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise ConfigError(f"there is nothing in {match[0]}: write {last}-{first}")
    return range(first, last + 1)


def _text(numbers: range) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def list_letters(which: Which) -> int:
    """Show a table. Return the exit code, as do the others."""
    letters = which.letters()
    if letters:
        heading = ("number", "time (UTC)", "channel", "topic", "bytes", "deliveries", "reason")
        rows = [heading, *(_row(letter, size) for letter, size in letters)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(heading))]
        right = {0, 4, 5}
        for row in rows:
            cells = [
                cell.rjust(width) if column in right else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            show("  ".join(cells).rstrip())
    else:
        show(f"no dead letters in {escaped(str(which.file.path), 400)}")
    if dropped := which.file.dropped():
        show(f"{dropped} older ones were discarded, since there was no more room")
    return 0


def _row(letter: DeadLetter, size: int) -> tuple[str, ...]:
    asked = "" if letter.send_asked is None else "to be sent again; "
    return (
        str(letter.number),
        _time(letter.at),
        escaped(letter.channel, _WIDTH),
        escaped(letter.topic, _WIDTH),
        str(size),
        str(letter.deliveries),
        asked + escaped(letter.reason, 2 * _WIDTH),
    )


def _time(at: float) -> str:
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "?"


def show_letters(which: Which) -> int:
    """Show each letter with all that is known of it."""
    count = 0
    for letter in which.whole():
        for line in [*([""] if count else []), *_described(letter)]:
            show(line)
        count += 1
    return _none(which) if not count else 0


def _described(letter: DeadLetter) -> Iterator[str]:
    yield f"number          {letter.number}"
    yield f"time            {_time(letter.at)} UTC"
    yield f"connector       {escaped(letter.connector)}"
    yield f"channel         {escaped(letter.channel)}"
    yield f"topic           {escaped(letter.topic, 70_000)}"
    yield f"deliveries      {letter.deliveries}"
    yield f"reason          {escaped(letter.reason, 2000)}"
    if letter.send_asked is not None:
        yield f"send asked      {_time(letter.send_asked)} UTC"
    if letter.retained:
        yield "retained        yes"
    if letter.correlation_id:
        yield f"correlation id  {_text_or_hex(letter.correlation_id)}"
    if letter.metadata is not None:
        yield f"metadata        {escaped(repr(letter.metadata), 2000)}"
    yield f"payload         {len(letter.payload)} bytes"
    yield from _payload(letter.payload)


def _payload(payload: bytes) -> Iterator[str]:
    shown = payload[:_SHOWN]
    text: str | None
    try:
        text = shown.decode()
    except UnicodeDecodeError as exc:
        # A character that is cut in two by our own limit is no reason.
        text = shown[: exc.start].decode() if len(payload) > _SHOWN and exc.start > _SHOWN - 4 else None
    if text is not None and all(sign.isprintable() or sign in "\n\r\t" for sign in text):
        for line in text.split("\n"):
            yield f"    {escaped(line, _SHOWN)}"
    else:
        for start in range(0, len(shown), _ROW):
            row = shown[start : start + _ROW]
            signs = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
            yield f"    {start:06x}  {row.hex(' '):<{3 * _ROW}} {signs}"
    if len(payload) > _SHOWN:
        yield f"    ... and {len(payload) - _SHOWN} bytes more: `taktora-trio dead-letters export` has them"


def _text_or_hex(value: bytes) -> str:
    text = value.decode(errors="replace")
    return text if text.isprintable() and "\ufffd" not in text else f"0x{value.hex()}"


def export_letters(which: Which, to: Path | None) -> int:
    """Write each letter as a line of JSON, to a new file or to standard output."""
    lines = (_json(letter) for letter in which.whole())
    if to is None:
        for line in lines:
            show(line)
        return 0
    count = 0
    try:
        fd = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            for line in lines:
                file.write(f"{line}\n")
                count += 1
            file.flush()
            os.fsync(fd)  # for whoever discards them next
    except OSError as exc:
        raise ConfigError(f"can't write {escaped(str(to), 400)}: {exc.strerror}") from exc
    show(f"{_count(count)} in {escaped(str(to), 400)}")
    return 0


def _json(letter: DeadLetter) -> str:
    content: dict[str, Any] = msgspec.to_builtins(letter, builtin_types=(bytes,))
    del content["redelivered"]  # is no part of what is kept
    at = datetime.fromtimestamp(letter.at, UTC).isoformat()
    return msgspec.json.encode({**content, "at": at}).decode()


def send_letters(which: Which) -> int:
    """Have a gateway send them to the app again: the one that runs, or else the next one."""
    numbers = [letter.number for letter, _ in which.letters()]
    if not numbers:
        return _none(which)
    which.file.ask_to_send(numbers)
    try:
        ask_to_revive(which.domain)
    except (ConfigError, NoSuchDomain) as exc:
        show(f"{_count(len(numbers))} marked; the next gateway of domain {which.domain.name} sends them to the app")
        if any(which.domain.holder(role) for role in ("owner", "gateway")):
            complain(f"the one that runs was not asked to: {exc}")
    else:
        show(f"{_count(len(numbers))} marked; the gateway that runs was asked to send them to the app")
    return 0


def discard_letters(which: Which) -> int:
    """Remove them."""
    show(f"{_count(which.file.remove([letter.number for letter, _ in which.letters()]))} discarded")
    return 0


def _none(which: Which) -> int:
    show(f"no such dead letters in {escaped(str(which.file.path), 400)}")
    return 0


def _count(count: int) -> str:
    return f"{count} dead letter{'s' * (count != 1)}"
