"""A command's outcome as it is seen from outside: its exit code, and what is on its two outputs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys
from taktora_trio.errors import ConfigError, DomainInUse, PayloadOverflow, TransportError
from taktora_trio.runners.this_process.outcome import call, printing_aside, show, show_document

def command():
    {code}

sys.exit(call(command))
"""


def run(code: str, output: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it; `output` says where its output goes, as in a shell."""
    program = [sys.executable, "-c", PROGRAM.format(code=code)]
    return subprocess.run(
        ["bash", "-c", f'"$@" {output}; exit ${{PIPESTATUS[0]}}', "bash", *program],
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "", **environment},  # as it is by default
    )


@pytest.mark.parametrize(
    ("code", "returncode", "line"),
    [
        ("raise ConfigError('bad')", 2, "taktora-trio: bad"),
        ("raise PayloadOverflow('bad')", 1, "taktora-trio: bad"),
        ("raise TransportError('broken')", 1, "taktora-trio: broken"),
        ("raise ExceptionGroup('', [ConfigError('bad')])", 2, "taktora-trio: bad"),
        ("raise KeyboardInterrupt", 128 + signal.SIGINT, ""),
        ("return 7", 7, ""),
    ],
)
def test_an_error_is_a_line_and_a_code(code: str, returncode: int, line: str) -> None:
    process = run(code)
    assert (process.returncode, process.stderr.strip(), process.stdout) == (returncode, line, "")


@pytest.mark.parametrize("code", ["show('x')", "print('x', flush=False)"])
def test_output_that_cannot_be_written_is_told(code: str) -> None:
    process = run(code, ">/dev/full")
    assert process.stderr == "taktora-trio: standard output can't be written: No space left on device\n"
    assert process.returncode == (2 if code.startswith("show") else 0), "what an app prints is not the result"


@pytest.mark.parametrize(("code", "output"), [("show('x')", ">&-"), ("sys.stdout.close(); show('x')", "")])
def test_output_that_is_closed_is_told(code: str, output: str) -> None:
    process = run(code, output)
    assert process.stderr == "taktora-trio: standard output can't be written: it is closed\n"
    assert process.returncode == 2


def test_what_an_encoding_lacks_is_written_as_a_literal_and_a_document_as_it_is() -> None:
    process = run("show('größe'); show_document('größe\\n'.encode())", "2>&1", PYTHONIOENCODING="ascii")
    assert process.stdout == "gr\\xf6\\xdfe\ngröße\n"
    assert process.returncode == 0


def test_what_a_module_prints_while_it_is_loaded_is_no_part_of_the_result() -> None:
    process = run("with printing_aside(): print('aside')\n    show('result')")
    assert (process.stdout, process.stderr) == ("result\n", "aside\n")


def test_who_has_read_enough_is_told_nothing() -> None:
    assert run("show('x' * 100_000)", "| true").returncode == 128 + signal.SIGPIPE
    assert run("show('x' * 100_000)", "| true").stderr == ""
    assert run("print('x' * 100)", "| true").stderr == ""


def test_an_app_that_prints_to_nobody_ends_in_one_line() -> None:
    process = run("import time; time.sleep(0.3); print('x', flush=True)", "| true")
    assert process.returncode == 128 + signal.SIGPIPE
    assert process.stderr == "taktora-trio: nobody reads standard output any more\n"


def test_what_may_pass_is_told_apart_from_what_will_not() -> None:
    assert run("raise DomainInUse('in use')").returncode == os.EX_TEMPFAIL
    assert run("raise ExceptionGroup('', [DomainInUse('in use'), DomainInUse('too')])").returncode == os.EX_TEMPFAIL
    assert run("raise ExceptionGroup('', [DomainInUse('in use'), ConfigError('bad')])").returncode == 2


def test_nobody_to_complain_to() -> None:
    assert run("raise ConfigError('bad')", "2>/dev/full").returncode == 2


def test_an_interrupt_while_the_supervisor_is_imported_is_no_traceback() -> None:
    program = """
import signal
from taktora_trio.processes import interpreter
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
signal.raise_signal(signal.SIGINT)  # it waits, and comes first of all
interpreter.become("taktora_trio.runners.command.supervisor", "{}")
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (128 + signal.SIGINT, b"", b"")
