"""The outcome of a command: a result on standard output, errors on standard error, and an exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from taktora_trio.errors import (
    ConfigError,
    ConnectorError,
    NoSuchDomain,
    TemporaryFailure,
    collapse,
    leaves,
    summary,
)
from taktora_trio.escaping import escaped

__all__ = ["call", "complain", "exit_code", "printing_aside", "show", "show_document"]

log = logging.getLogger(__name__)

_PACKAGE = f"{Path(__file__).parents[2]}{os.sep}"
_PYTHON = f"{Path(os.__file__).parent}{os.sep}"
_ENOUGH = 128 + signal.SIGPIPE  # the exit code of whoever writes on to a pipe that nobody reads


def call(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit code. Errors for its user become a line each, others an entry in the log."""
    code = 0
    try:
        code = command() or 0
    except* SystemExit as group:
        code = exit_code(group)
    except* ConfigError as group:
        passes = all(isinstance(leaf, TemporaryFailure) for leaf in leaves(group))
        code = _complain(group, os.EX_TEMPFAIL if passes else 2)
    except* NoSuchDomain as group:
        code = _complain(group, 3)
    except* ConnectorError as group:
        code = _complain(group, 1)
    except* KeyboardInterrupt:  # before there was anything to be stopped politely
        code = 128 + signal.SIGINT
    except* Exception as group:
        cause = collapse(group)
        if isinstance(cause, BrokenPipeError) and _nobody_reads(1):
            code = _complain(ConnectorError("nobody reads standard output any more"), _ENOUGH)
        else:
            log.critical("ended by an error: %s", summary(cause), exc_info=cause, extra={"event": "ended-by-error"})
            code = 1
    # Else the interpreter does it at its end, and complains about what it can't write in its own way.
    if (failure := _flush(sys.stdout, 1)) and not isinstance(failure, BrokenPipeError):
        _complain(_unwritable(failure), code)
    _flush(sys.stderr, 2)
    return code


def exit_code(exits: BaseExceptionGroup[SystemExit]) -> int:
    """Return the exit code of a program that ends by these: of the first that is not 0. Prints what is a text.

    As Python does it for one of them: `sys.exit()` means 0, and `sys.exit("text")` prints that and means 1.
    """
    code = 0
    for leaf in leaves(exits):
        asked = leaf.code if isinstance(leaf, SystemExit) else 1
        if asked is not None and not isinstance(asked, int):
            print(asked, file=sys.stderr)  # noqa: T201 - as sys.exit() does
            asked = 1
        code = code or int(asked or 0)
    return code


def show(result: str) -> None:
    """Print what a command was asked for. Ends the program, as SIGPIPE does, where enough was read (`... | head -1`).

    Signs that the terminal's encoding lacks are written as in a Python literal. Raises `ConfigError` where it can't be
    written.
    """
    _write(lambda out: out.write(_encodable(f"{result}\n", out)))


def show_document(content: bytes) -> None:
    """Print a document that programs read: as it is, in its own encoding whatever that of the terminal is."""
    _write(lambda out: out.buffer.write(content) if hasattr(out, "buffer") else out.write(content.decode()))


def complain(text: str) -> None:
    """Print to standard error what its user has to know, beside what a command was asked for."""
    with contextlib.suppress(OSError):  # nobody hears it
        print(f"taktora-trio: {text}", file=sys.stderr)  # noqa: T201 - for the user, not for the log


@contextlib.contextmanager
def printing_aside() -> Iterator[None]:
    """Have what an app's module prints go to standard error: standard output is for what the command was asked for."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _write(write: Callable[[TextIO], object]) -> None:
    out = sys.stdout
    if out is None or out.closed:  # it was closed before we began, or the app's module has closed it
        raise ConfigError("standard output can't be written: it is closed")
    try:
        out.flush()
        write(out)
        out.flush()
    except OSError as exc:
        _flush(sys.stdout, 1)
        if isinstance(exc, BrokenPipeError):
            sys.exit(_ENOUGH)
        raise _unwritable(exc) from None


def _encodable(text: str, out: TextIO) -> str:
    encoding = getattr(out, "encoding", None) or "utf-8"
    try:
        text.encode(encoding, getattr(out, "errors", None) or "strict")
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def _nobody_reads(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))  # poll(2): the reading end of a pipe is closed


def _unwritable(exc: OSError) -> ConfigError:
    return ConfigError(f"standard output can't be written: {exc.strerror}")


def _flush(stream: TextIO | None, fd: int) -> OSError | None:
    """Write what is left in the buffer. Return the error if it can't be written; it is dropped then."""
    try:
        if stream is not None and not stream.closed:  # as an app may have it
            stream.flush()
    except OSError as exc:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), fd)
        return exc
    return None


def _complain(error: BaseException, code: int, outside: Sequence[traceback.FrameSummary] = ()) -> int:
    """Print a line for each cause. `outside` are the frames of the groups that it was in."""
    frames = [*outside, *traceback.extract_tb(error.__traceback__)]
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            _complain(inner, code, frames)
    else:
        complain(f"{error}{_place(frames)}")
    return code


def _place(frames: Sequence[traceback.FrameSummary]) -> str:
    """Say where in the app an error of ours was raised; nothing, if no frame of an app has a part in it."""
    files = [frame.filename for frame in frames]
    first = next((index for index, file in enumerate(files) if file.startswith(_PACKAGE)), len(files))
    # Not whoever has called us, nor what is ours, Python's, or an installed package's.
    app = [frame for frame in frames[first:] if not frame.filename.startswith(("<", _PACKAGE, _PYTHON))]
    app = [frame for frame in app if not re.search(r"/(site|dist)-packages/", frame.filename)]
    return f" ({escaped(app[-1].filename, 400)}:{app[-1].lineno})" if app else ""
