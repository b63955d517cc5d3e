"""DeadLetterFile: on disk, the messages that an app could not be done with. Every call blocks on the disk.

It is an SQLite file, so a gateway may add to it while a command reads it, and anybody may query it. Each call opens and
closes it, for calls are rare: so none of them holds a lock, or a file that was put in another's place, for long.

A file that is damaged is put aside and a new one begun; one of another program, or of a newer version, is left alone.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from taktora_trio.channels import Metadata
from taktora_trio.connectors.dead_letters.letter import APPLICATION, VERSION, DeadLetter, refuse_another
from taktora_trio.digest import sha256
from taktora_trio.errors import StoreError
from taktora_trio.escaping import escaped
from taktora_trio.statefolder import make_private, sync_folders

__all__ = ["OVERHEAD", "DeadLetterFile"]

OVERHEAD = 200
"""Bytes that a letter counts besides its payload, topic and metadata."""
_MARKS = {"application_id": APPLICATION, "user_version": VERSION}
_BUSY = 2.0  # seconds to wait for another process that is writing
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_TABLES = """
CREATE TABLE letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    connector TEXT NOT NULL,
    channel TEXT NOT NULL,
    topic TEXT NOT NULL,
    at REAL NOT NULL,
    deliveries INTEGER NOT NULL,
    reason TEXT NOT NULL,
    retained INTEGER NOT NULL,
    send_asked REAL,
    size INTEGER NOT NULL,
    digest BLOB NOT NULL,
    correlation_id BLOB NOT NULL,
    metadata BLOB,
    payload BLOB NOT NULL
);
CREATE INDEX sizes ON letters (connector, number, size);
CREATE INDEX contents ON letters (digest);
CREATE TABLE dropped (connector TEXT PRIMARY KEY, count INTEGER NOT NULL);
"""
_COLUMNS = (
    "number, connector, channel, topic, at, deliveries, reason, retained, send_asked, correlation_id, metadata, payload"
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Metadata).decode


class DeadLetterFile:
    """The dead letters of one deployment. Its methods raise `StoreError` where the disk or the file is not usable."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, letters: Sequence[DeadLetter], *, max_messages: int, max_bytes: int) -> tuple[int, Path | None]:
        """Add letters of one connector, all or none; they are on the disk when it returns. The oldest make room.

        One that has a number is there already, and is changed; so is one that the other side has sent again, if there
        is one of the same content. Returns the number of letters that were dropped, and the path of a damaged file
        that was put aside.
        """
        aside = None
        try:
            return self._put(letters, max_messages, max_bytes), None
        except _DamagedFile as exc:
            aside = self._put_aside(exc.inode)
        return self._put(letters, max_messages, max_bytes), aside

    def all(self) -> list[tuple[DeadLetter, int]]:
        """Return all letters without their payloads, the oldest first, and the size of each payload."""
        with self._opened() as database:
            if database is None:
                return []
            columns = _COLUMNS.replace("payload", "x'', length(payload)")
            query = f"SELECT {columns} FROM letters ORDER BY number"  # noqa: S608
            return [(_letter(row[:-1]), row[-1]) for row in database.execute(query)]

    def get(self, number: int) -> DeadLetter | None:
        """Return one letter; `None` if there is none of this number."""
        with self._opened() as database:
            if database is None:
                return None
            row = database.execute(f"SELECT {_COLUMNS} FROM letters WHERE number = ?", (number,)).fetchone()  # noqa: S608
            return None if row is None else _letter(row)

    def dropped(self) -> int:
        """Return the number of letters that were ever dropped for want of room."""
        with self._opened() as database:
            return 0 if database is None else int(database.execute("SELECT total(count) FROM dropped").fetchone()[0])

    def ask_to_send(self, numbers: Sequence[int]) -> None:
        """Mark letters that a gateway is to send to the app once more."""
        with self._opened(write=True) as database:
            if database is not None:
                rows = [(time.time(), number) for number in numbers]
                database.executemany("UPDATE letters SET send_asked = ? WHERE number = ?", rows)

    def to_send(self, connector: str, channels: Collection[str], most: int) -> list[DeadLetter]:
        """Return the first letters of these channels of a connector that are marked, with their payloads."""
        with self._opened() as database:
            if database is None:
                return []
            query = (
                f"SELECT {_COLUMNS} FROM letters WHERE connector = ? AND send_asked IS NOT NULL"  # noqa: S608
                f" AND channel IN ({', '.join('?' * len(channels))}) ORDER BY number LIMIT ?"
            )
            return [_letter(row) for row in database.execute(query, (connector, *channels, most))]

    def remove(self, numbers: Sequence[int]) -> int:
        """Remove letters, and return how many were there."""
        with self._opened(write=True) as database:
            if database is None:
                return 0
            query = "DELETE FROM letters WHERE number = ?"
            return sum(database.execute(query, (number,)).rowcount for number in numbers)

    # Inside

    def _put(self, letters: Sequence[DeadLetter], max_messages: int, max_bytes: int) -> int:
        with self._opened(make=True) as database:
            assert database is not None
            for letter in letters:
                _add(database, letter)
            return sum(_drop(database, name, max_messages, max_bytes) for name in {one.connector for one in letters})

    @contextlib.contextmanager
    def _opened(self, *, write: bool = False, make: bool = False) -> Iterator[sqlite3.Connection | None]:
        """One transaction; `None` where there is no file, unless `make`."""
        inode = 0
        try:
            if make:
                make_private(self.path.parent)
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            try:
                inode, size = (status := self.path.stat()).st_ino, status.st_size
            except FileNotFoundError:
                yield None
                return
            database = sqlite3.connect(self.path, timeout=_BUSY, isolation_level=None)
            try:
                # The folder is synced, too, so that what was committed is so after a power cut.
                database.execute("PRAGMA synchronous = EXTRA")
                if make and not size:
                    sync_folders(self.path.parent)
                    database.execute("PRAGMA auto_vacuum = FULL")
                database.execute("BEGIN IMMEDIATE" if write or make else "BEGIN")
                is_empty = not database.execute("SELECT 1 FROM sqlite_schema").fetchone()
                if not is_empty:
                    refuse_another(self.path, *(database.execute(f"PRAGMA {name}").fetchone()[0] for name in _MARKS))
                elif make:
                    _begin(database)
                yield database if make or not is_empty else None  # it is empty if the first commit did not succeed
                database.execute("COMMIT")
            finally:
                database.close()  # rolls back what was not committed
        except sqlite3.Error as exc:
            if exc.sqlite_errorcode & 0xFF in _DAMAGED:
                raise _DamagedFile(f"{escaped(str(self.path), 400)} is damaged: {exc}", inode) from exc
            raise StoreError(f"the dead letters {escaped(str(self.path), 400)} can't be used now: {exc}") from exc
        except OSError as exc:
            raise StoreError(
                f"the dead letters {escaped(str(self.path), 400)} can't be used now: {exc.strerror}"
            ) from exc

    def _put_aside(self, inode: int) -> Path | None:
        """Rename a damaged file, and return its new path; `None` if another process has done it."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        aside = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino != inode:
                return None
            self.path.rename(aside)
            journal = self.path.with_name(f"{self.path.name}-journal")
            journal.rename(journal.with_name(f"{aside.name}-journal"))
        return aside


class _DamagedFile(StoreError):
    def __init__(self, message: str, inode: int) -> None:
        super().__init__(message)
        self.inode = inode


def _begin(database: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        database.execute(statement)
    for name, value in _MARKS.items():
        database.execute(f"PRAGMA {name} = {value}")


def _add(database: sqlite3.Connection, letter: DeadLetter) -> None:
    metadata = None if letter.metadata is None else _encode(letter.metadata)
    topic, reason = _text(letter.topic), _text(letter.reason)
    digest = sha256(b"%d\n%d\n" % (len(topic.encode()), len(letter.payload)))
    for part in (topic.encode(), letter.payload, letter.correlation_id, metadata or b""):
        digest.update(part)
    content = (letter.connector, letter.channel, digest.digest()[:16])
    number = letter.number
    if not number and letter.redelivered:
        query = "SELECT max(number) FROM letters WHERE connector = ? AND channel = ? AND digest = ?"
        number = database.execute(query, content).fetchone()[0] or 0
    if number:
        changed = database.execute(
            "UPDATE letters SET at = ?, deliveries = ? + deliveries * ?, reason = ?, send_asked = NULL"
            " WHERE number = ?",
            # What was sent again counts from the beginning; what the other side has sent again does not.
            (letter.at, letter.deliveries, bool(letter.number), reason, number),
        )
        if changed.rowcount:
            return
    size = len(letter.payload) + len(topic) + len(metadata or b"") + len(letter.correlation_id) + OVERHEAD
    database.execute(
        "INSERT INTO letters (connector, channel, digest, topic, at, deliveries, reason, retained, size,"
        " correlation_id, metadata, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *content,
            topic,
            letter.at,
            letter.deliveries,
            reason,
            letter.retained,
            size,
            letter.correlation_id,
            metadata,
            letter.payload,
        ),
    )


def _drop(database: sqlite3.Connection, connector: str, max_messages: int, max_bytes: int) -> int:
    """Remove the oldest letters of a connector beyond its limits, and return how many; the newest one stays."""
    query = "SELECT count(*), total(size) FROM letters WHERE connector = ?"
    count, size = database.execute(query, (connector,)).fetchone()
    doomed = []
    oldest = database.execute("SELECT number, size FROM letters WHERE connector = ? ORDER BY number", (connector,))
    while count > 1 and (count > max_messages or size > max_bytes):
        number, its = oldest.fetchone()
        doomed.append((number,))
        count, size = count - 1, size - its
    if doomed:
        database.executemany("DELETE FROM letters WHERE number = ?", doomed)
        database.execute(
            "INSERT INTO dropped VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            (connector, len(doomed)),
        )
    return len(doomed)


def _letter(row: Sequence[object]) -> DeadLetter:
    """Return what a row says. Raises `StoreError` for values that we have not written."""
    number, connector, channel, topic, at, deliveries, reason, retained, asked, correlation_id, metadata, payload = row
    try:
        return msgspec.convert(
            {
                "number": number,
                "connector": connector,
                "channel": channel,
                "topic": topic,
                "at": at,
                "deliveries": deliveries,
                "reason": reason,
                "retained": bool(retained),
                "send_asked": asked,
                "correlation_id": correlation_id,
                "metadata": None if metadata is None else _decode(metadata),  # type: ignore[arg-type]
                "payload": payload,
            },
            DeadLetter,
        )
    except (msgspec.MsgspecError, TypeError) as exc:
        raise StoreError(f"dead letter {escaped(str(number))} can't be read: {escaped(str(exc))}") from exc


def _text(text: str) -> str:
    """Return the text as SQLite can store it."""
    return text.encode(errors="backslashreplace").decode()
