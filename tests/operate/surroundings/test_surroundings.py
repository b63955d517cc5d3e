"""Whatever surrounds a command: it works there, or says in one line what is wrong, with exit code 2.

Each row is a shell line that starts the command, which stands in `"$@"`; its present folder has `app.py`. A new kind of
surrounding is a row more. They are run by `make operate`, since each is a run of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from taktora_trio.transport.domain import Domain
from tests.command import ROOT

APP = (ROOT / "tests" / "deployment" / "surrounded_apps.py").read_text()
PACKAGE = ROOT / "taktora_trio"
MAIN = "from taktora_trio.cli import main; main()"

BOTH = ("in-process", "split")
ONE = ("in-process",)
SPLIT = ("split",)
ROOT_ONLY = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None, reason="only root may change these, by unshare(1)"
)

# A name: the shapes in which it is tried, and the shell line.
WORKS: dict[str, tuple[tuple[str, ...], str]] = {
    "standard input is closed": (ONE, '"$@" 0<&-'),
    "standard output is closed": (SPLIT, '"$@" 1>&-'),
    "standard error is closed": (ONE, '"$@" 2>&-'),
    "all three are closed": (BOTH, '"$@" 0<&- 1>&- 2>&-'),
    "standard error can only be read": (ONE, '"$@" 2</dev/null'),
    "both outputs are a full disk": (BOTH, '"$@" 1>/dev/full 2>/dev/full'),
    "nobody reads standard output": (SPLIT, '"$@" | true'),
    "nobody reads standard error": (BOTH, '{ "$@" 2>&1 1>&3 3>&- | true; } 3>&1'),
    "a locale without UTF-8": (ONE, 'LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 "$@"'),
    "nothing in the environment": (BOTH, 'env -i "$@"'),
    "odd words in the environment": (
        ONE,
        "export LC_ALL=xx_YY.odd TZ=Nowhere/Odd TERM=dumb COLUMNS=0 HOME=/nonexistent TMPDIR=/nonexistent;"
        " export NOTIFY_SOCKET=odd TAKTORA_PATH=odd TAKTORA_HALF=odd PYTHONPATH=:/nonexistent:/dev/null:;"
        ' "$@"',
    ),
    "a notify socket that there is not": (SPLIT, 'NOTIFY_SOCKET=/nonexistent "$@"'),
    "a safe path": (ONE, 'PYTHONSAFEPATH=1 "$@"'),
    "isolated": (BOTH, 'shift; "$PYTHON" -I "$@"'),
    "optimized, and warnings are errors": (SPLIT, 'shift; "$PYTHON" -OO -Werror "$@"'),
    "nobody may read new files": (BOTH, 'umask 777; "$@"'),
    "files named as Python's own modules": (BOTH, 'touch json.py queue.py ssl.py logging.py select.py; "$@"'),
    "the present folder was removed": (SPLIT, 'export PYTHONPATH="$PWD"; mkdir x; cd x; rmdir ../x; "$@"'),
    "a module that prints": (SPLIT, 'echo "print(1)" >>app.py; "$@"'),
    "a script of another folder": (
        BOTH,
        'mkdir bin; mv app.py bin; echo "$MAIN" >bin/start.py; shift 3; "$PYTHON" bin/start.py "$@"',
    ),
    "a script that changes the path": (
        SPLIT,
        "mkdir lib; mv app.py lib; echo \"import sys; sys.path.append('lib'); $MAIN\" >start.py;"
        ' shift 3; "$PYTHON" -I start.py "$@"',
    ),
    "a zip file": (
        ONE,
        'mkdir z; mv app.py z; echo "$MAIN" >z/__main__.py; "$PYTHON" -m zipapp z; rm -r z;'
        ' shift 3; "$PYTHON" z.pyz "$@"',
    ),
    "a zip file with this package in it": (
        SPLIT,
        'mkdir z; mv app.py z; cp -r "$PACKAGE" z; echo "$MAIN" >z/__main__.py; "$PYTHON" -m zipapp z; rm -r z;'
        ' shift 3; "$PYTHON" z.pyz "$@"',
    ),
    "few descriptors": (BOTH, 'ulimit -n 150; "$@"'),
    "a user without a name": (  # in shared memory of its own, for a user's folder stays
        BOTH,
        "unshare -m sh -c 'mount -t tmpfs x /dev/shm;"
        ' exec env -u HOME -u USER unshare -U --map-user=54321 --map-group=54321 "$@"\' - "$@"',
    ),
    "process 1 of a container": (BOTH, 'unshare -pf --mount-proc "$@"'),
    "no /dev but for shared memory": (
        ONE,
        "unshare -m sh -c"
        ' \'mount -t tmpfs x /dev && mkdir -m 1777 /dev/shm && mknod /dev/null c 1 3 && exec "$@"\' - "$@"',
    ),
}

# The same, and words of the one line that it says.
REFUSED: dict[str, tuple[tuple[str, ...], str, list[str]]] = {
    "a module named as one of Python's own": (
        ONE,
        'cp app.py queue.py; shift 5; "$PYTHON" -m taktora_trio run queue:deployment "$@"',
        ["queue.py, for that one has its name"],
    ),
    "an app that is not there": (ONE, 'rm app.py; "$@"', ["no module 'app'"]),
    "an app that can't be imported": (SPLIT, 'echo "1 / 0" >app.py; "$@"', ["ZeroDivisionError", "app.py:1"]),
    "garbage from a watchdog": (BOTH, 'WATCHDOG_USEC=soon "$@"', ["WATCHDOG_USEC='soon'", "unset it"]),
    "a watchdog's garbage for whom": (ONE, 'WATCHDOG_USEC=1 WATCHDOG_PID=me "$@"', ["WATCHDOG_PID='me'"]),
    "hardly any descriptors": (BOTH, 'ulimit -n 16; "$@"', ["too few descriptors", "of 16 are in use", "LimitNOFILE="]),
    "small files only": (ONE, 'ulimit -f 8; "$@"', ["may write files of", "LimitFSIZE="]),
    "no executable": (
        SPLIT,
        'shift 3; "$PYTHON" -c "import sys; sys.executable = None; $MAIN" "$@"',
        ["sys.executable is empty", "--mode in-process"],
    ),
    "an executable that is gone": (
        SPLIT,
        'shift 3; "$PYTHON" -c "import sys; sys.executable = \'/gone\'; $MAIN" "$@"',
        ["/gone", "No such file or directory"],
    ),
    "not the main thread": (ONE, 'shift 3; "$PYTHON" -c "import os, threading; $THREAD" "$@"', ["main thread"]),
    "shared memory that can only be read": (
        BOTH,
        'unshare -m sh -c \'mount -t tmpfs -o ro x /dev/shm; exec "$@"\' - "$@"',
        ["Read-only file system", "mount -o remount,rw"],
    ),
    "no shared memory": (
        ONE,
        'unshare -m sh -c \'mount -t tmpfs x /dev; mknod /dev/null c 1 3; exec "$@"\' - "$@"',
        ["there is no shared memory", "mount a tmpfs"],
    ),
    "a folder in shared memory that others may write to": (
        ONE,
        'unshare -m sh -c \'mount -t tmpfs x /dev/shm; mkdir -m 777 /dev/shm/taktora-0; exec "$@"\' - "$@"',
        ["/dev/shm/taktora-0", "mode 0777"],
    ),
    "a message type that can't be resolved": (
        SPLIT,
        "sed -i \"s/^FEW = .*/FEW = [Outbound('few', 'Nowhere', MqttRouting('x'))]/\" app.py; \"$@\"",
        ["'Nowhere'", "can't be decoded"],
    ),
    "a host name that can't be": (ONE, '"$@" --broker mqtt://a..b', ["'a..b' is no host name"]),
    "a port that can't be": (ONE, '"$@" --broker mqtt://localhost:99999', ["port"]),
    "a websocket's path with a blank": (ONE, '"$@" --broker "ws://localhost:1/a b"', ["%20"]),
    "no /proc": (ONE, 'unshare -m sh -c \'umount -l /proc; exec "$@"\' - "$@"', ["mount -t proc"]),
    "another namespace's /proc": (ONE, 'unshare -pf "$@"', ["PID namespace", "--mount-proc"]),
}

THREAD = f"""
def run():
    try:
        {MAIN.replace("; ", chr(10) + "        ")}
    except SystemExit as exc:
        os._exit(exc.code)
threading.Thread(target=run).start()
"""


async def start(shell: str, mode: str, folder: Path, domain: Domain) -> subprocess.CompletedProcess[bytes]:
    (folder / "app.py").write_text(APP)
    command = [sys.executable, "-m", "taktora_trio", "run", "app:deployment", "--mode", mode, "--domain", domain.name]
    variables = {
        "PYTHONUNBUFFERED": "",
        "PYTHON": sys.executable,
        "PACKAGE": str(PACKAGE),
        "MAIN": MAIN,
        "THREAD": THREAD,
    }
    with trio.fail_after(30):
        return await trio.run_process(
            ["sh", "-c", shell, "sh", *command],
            cwd=folder,
            env={**os.environ, **variables},
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )


def rows(table: Mapping[str, tuple[Any, ...]]) -> list[Any]:
    """Each row in each of its shapes."""
    return [
        pytest.param(name, mode, id=f"{name}-{mode}", marks=[ROOT_ONLY] if "unshare" in row[1] else [])
        for name, row in table.items()
        for mode in row[0]
    ]


@pytest.mark.parametrize(("name", "mode"), rows(WORKS))
async def test_it_works(name: str, mode: str, tmp_path: Path, domain: Domain) -> None:
    _, shell = WORKS[name]
    process = await start(shell, mode, tmp_path, domain)
    assert b"Traceback" not in process.stderr, process.stderr.decode()
    assert process.returncode == 0, process.stderr.decode()
    if ">" not in shell.replace("2>", "") and "|" not in shell:
        assert b"works" in process.stdout


@pytest.mark.parametrize(("name", "mode"), rows(REFUSED))
async def test_one_line_says_what_is_wrong(name: str, mode: str, tmp_path: Path, domain: Domain) -> None:
    _, shell, parts = REFUSED[name]
    process = await start(shell, mode, tmp_path, domain)
    assert process.returncode == 2, process.stderr.decode()
    [line] = process.stderr.decode().splitlines()
    assert line.startswith("taktora-trio: ")
    for part in parts:
        assert part in line
