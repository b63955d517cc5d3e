"""A machine that systemd has booted, seen from outside: its commands, its journal, what its broker delivers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import attrs
import pytest
import trustme

from tests.operate.systemd.root import HOME, ROOT, SITE, make_root
from tests.patience import PATIENCE

PASSWORD = "basil-and-thyme"
UNITS = ("greenhouse", "greenhouse-gateway", "greenhouse-plugin")
UID_FOLDER = re.compile(r"taktora-\d+")

_BROKER = """\
per_listener_settings true
listener 8883
certfile /etc/mosquitto/certificate.pem
keyfile /etc/mosquitto/key.pem
password_file /etc/mosquitto/passwords
allow_anonymous false
listener 1883 127.0.0.1
allow_anonymous true
"""
# It all lies in memory, in a mount namespace that ends with the machine.
_BOOT = """
mount -t tmpfs tmpfs "$1" && mkdir "$1/upper" "$1/work" "$1/root" &&
mount -t overlay overlay -o "lowerdir=$2:$3,upperdir=$1/upper,workdir=$1/work" "$1/root" &&
cd / && folder="$1" && shift 3 && exec setpriv --pdeathsig KILL systemd-nspawn -q -b -D "$folder/root" "$@"
"""


@attrs.frozen
class Entry:
    """A line of the journal."""

    unit: str
    priority: int
    message: str


class Machine:
    """Commands run in it as root. What is waited for is waited for `PATIENCE` seconds at most."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        """Of its systemd."""
        self.at_boot = ""
        """What systemctl(1) has said of the boot and of the enabled unit, before any test."""
        self.journal: list[Entry] = []
        self._follower: subprocess.Popen[bytes] | None = None
        self._partial = b""

    def command(self, *words: str) -> list[str]:
        """Return what runs a command in the machine. What is killed here ends there."""
        enter = ("nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--")
        return [*enter, "setpriv", "--pdeathsig", "KILL", *words]

    def run(self, *words: str, check: bool = True, input: str = "") -> str:  # noqa: A002 - as subprocess has it
        """Run a command, and return what it writes to standard output."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=2 * PATIENCE, input=input)
        if check and done.returncode:
            lines = "\n".join(f"{entry.unit}: {entry.message}" for entry in self.read()[-40:])
            raise AssertionError(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}\njournal:\n{lines}")
        return done.stdout

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.run("systemctl", *words, check=check)

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.systemctl("show", "--value", "-p", name, unit).strip()

    def main_pid(self, unit: str) -> int:
        return int(self.show(unit, "MainPID"))

    def processes(self, unit: str) -> dict[int, str]:
        """Return the command line of each process of a unit, by its id in the machine."""
        group = self.show(unit, "ControlGroup")
        found = {}
        for pid in self.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs", check=False).split() if group else []:
            found[int(pid)] = self.run("cat", f"/proc/{pid}/cmdline", check=False).replace("\0", " ")
        return found

    def half(self, unit: str, half: str) -> int:
        """Return the process id of a half that our supervisor has started, as far as it has."""
        return next((pid for pid, line in self.processes(unit).items() if f" {half} " in line), 0)

    def kill(self, pid: int, signum: signal.Signals = signal.SIGKILL) -> None:
        assert pid > 1
        self.run("kill", f"-{signum.name.removeprefix('SIG')}", str(pid))

    def write(self, path: str, text: str) -> None:
        self.run("install", "-D", "-m", "644", "/dev/stdin", path, input=text)

    def tell(self, command: str) -> None:
        """Publish a command to the app."""
        self.run("mosquitto_pub", "-h", "127.0.0.1", "-q", "1", "-t", "greenhouse/commands", "-m", command)

    # The journal

    def follow(self) -> None:
        self._follower = subprocess.Popen(
            self.command("journalctl", "-f", "-n", "all", "-o", "json"),
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert self._follower.stdout is not None
        os.set_blocking(self._follower.stdout.fileno(), False)

    def unfollow(self) -> None:
        if self._follower is not None:
            with self._follower:
                self._follower.kill()

    def read(self, seconds: float = 0) -> list[Entry]:
        """Wait so long for more, and return all lines until now."""
        assert self._follower is not None
        assert self._follower.stdout is not None
        out = self._follower.stdout
        if select.select([out], [], [], seconds)[0]:
            *lines, self._partial = (self._partial + (out.read() or b"")).split(b"\n")
            for line in lines:
                fields = json.loads(line)
                unit = fields.get("UNIT") or fields.get("_SYSTEMD_UNIT") or ""
                message = fields.get("MESSAGE")
                text = message if isinstance(message, str) else bytes(message or b"").decode(errors="replace")
                self.journal.append(Entry(unit.removesuffix(".service"), int(fields.get("PRIORITY", 6)), text))
        return self.journal

    def mark(self) -> int:
        """Return where the journal ends now: what comes later counts for `until_logged`."""
        token = uuid.uuid4().hex
        self.run("systemd-cat", "echo", token)
        self.until_logged(token, 0)
        return len(self.journal)

    def until_logged(self, pattern: str, since: int, unit: str | None = None, count: int = 1) -> re.Match[str]:
        """Wait for a line that has this; return the match of the last of `count`."""
        until = time.monotonic() + PATIENCE
        while True:
            found = [
                match
                for entry in self.journal[since:]
                if unit in (None, entry.unit) and (match := re.search(pattern, entry.message))
            ]
            if len(found) >= count:
                return found[count - 1]
            if time.monotonic() > until:
                lines = "\n".join(f"{entry.unit}: {entry.message}" for entry in self.journal[since:])
                raise AssertionError(f"not {count} times in the journal: {pattern}\n{lines}")
            self.read(until - time.monotonic())

    def until(self, condition: str) -> None:
        """Wait until a shell command of the machine succeeds: for what announces nothing."""
        self.run("sh", "-c", f"for n in $(seq {int(PATIENCE * 10)}); do {condition} && exit; sleep 0.1; done; exit 1")

    # What is left

    def left(self) -> tuple[list[str], list[str]]:
        """Return the processes of the deployment's user, and what is in shared memory but for its empty folder."""
        processes = self.run("ps", "-o", "args=", "-U", "greenhouse", check=False).splitlines()
        files = self.run("find", "/dev/shm", "-mindepth", "1").splitlines()
        expected = re.compile(rf"/dev/shm/{UID_FOLDER.pattern}(/locks)?")
        return processes, [file for file in files if not expected.fullmatch(file)]


class Received:
    """What the broker has delivered to a subscriber, by the run of the app that has sent it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._partial = b""
        self._is_subscribed = False
        self._runs: defaultdict[int, set[int]] = defaultdict(set)

    def close(self) -> None:
        self._file.close()

    def runs(self) -> Mapping[int, set[int]]:
        """Return the numbers that have arrived until now, of each run."""
        *lines, self._partial = (self._partial + self._file.read()).split(b"\n")
        for line in lines:
            match line.split():
                case [run, number] if run.isdigit():
                    self._runs[int(run)].add(int(number))
                case [*_, b"received", b"SUBACK"]:
                    self._is_subscribed = True
        return self._runs

    def count(self) -> int:
        return sum(map(len, self.runs().values()))

    def until_subscribed(self) -> None:
        self._until(lambda: bool(self.runs()) or self._is_subscribed, "no answer to the subscription")

    def until_more(self, count: int = 50) -> None:
        """Wait until so many more have arrived."""
        goal = self.count() + count
        self._until(lambda: self.count() >= goal, f"{count} more messages have not arrived")

    def until_runs(self, count: int) -> None:
        """Wait until the app has been started so many times, and has sent something each time."""
        self._until(lambda: len(self.runs()) >= count, f"not {count} runs of the app have sent anything")
        self.until_more()

    def until_all(self, sent: Mapping[int, int]) -> None:
        """Wait until all of `sent` has arrived, and see that no run has a gap."""
        self._until(
            lambda: all(count <= max(self.runs().get(run, {0})) for run, count in sent.items()), f"not all of {sent}"
        )
        assert self.missing(sent) == {}

    def _until(self, condition: Callable[[], bool], else_: str) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until, else_
            time.sleep(0.02)  # a file announces nothing

    def missing(self, sent: Mapping[int, int] = MappingProxyType({})) -> dict[int, list[int]]:
        """Return what has not arrived of each run: of what `sent` says of it, and no gap before what has arrived."""
        runs = self.runs()
        found = {}
        for run in {*runs, *sent}:
            arrived = runs.get(run, set())
            if lacking := sorted(set(range(1, max(sent.get(run, 0), *arrived, 0) + 1)) - arrived):
                found[run] = lacking
        return found


def write_files(folder: Path) -> Path:
    """Write what lies over the root file system: the units as they are, the app, a broker with TLS and a password."""
    authority = trustme.CA()
    certificate = authority.issue_cert("broker.example")
    etc, home = folder / "etc", folder / HOME
    for needed in (etc / "mosquitto/conf.d", etc / "greenhouse", etc / "ssl/certs", etc / "systemd/system", home):
        needed.mkdir(parents=True)
    (etc / "hosts").write_text("127.0.0.1 localhost broker.example\n")
    (etc / "hostname").write_text("greenhouse-machine\n")
    authority.cert_pem.write_to_path(str(etc / "ssl/certs/ca-certificates.crt"))
    (etc / "mosquitto/conf.d/greenhouse.conf").write_text(_BROKER)
    certificate.cert_chain_pems[0].write_to_path(str(etc / "mosquitto/certificate.pem"))
    certificate.private_key_pem.write_to_path(str(etc / "mosquitto/key.pem"))
    (etc / "mosquitto/key.pem").chmod(0o644)  # of a test
    (etc / "mosquitto/passwords").touch(0o644)
    tool = shutil.which("mosquitto_passwd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert tool is not None
    subprocess.run([tool, "-b", etc / "mosquitto/passwords", "greenhouse", PASSWORD], check=True, capture_output=True)
    (etc / "mosquitto/passwords").chmod(0o644)
    secret = etc / "greenhouse/broker-password"
    secret.write_text(f"{PASSWORD}\n")
    secret.chmod(0o600)
    for unit in (ROOT / "supervisors/systemd").iterdir():
        shutil.copy(unit, etc / "systemd/system")
    shutil.copy(Path(__file__).with_name("greenhouse.py"), home)
    return folder


@contextlib.contextmanager
def open_machine(folder: Path) -> Iterator[Machine]:
    """Boot. Skips where this machine can't."""
    root, memory, files = make_root(), folder / "memory", write_files(folder / "files")
    memory.mkdir()
    wants = files / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "greenhouse-gateway.service").symlink_to("/etc/systemd/system/greenhouse-gateway.service")
    with (folder / "console").open("wb") as console:
        nspawn = subprocess.Popen(
            [
                *("unshare", "--mount", "--propagation", "private", "sh", "-c", _BOOT, "sh", memory, files, root),
                *("--private-network", "--register=no", "--keep-unit", "--console=read-only"),
                f"--machine=greenhouse-{os.getpid()}",
                f"--bind-ro={ROOT / 'taktora_trio'}:/{SITE}/taktora_trio",
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            start_new_session=True,
        )
    try:
        machine = Machine(_until_booted(nspawn, folder / "console"))
        machine.follow()
        try:
            yield machine
        finally:
            machine.unfollow()
    finally:
        nspawn.kill()  # and with it all that is in there
        nspawn.wait()


def _until_booted(nspawn: subprocess.Popen[bytes], console: Path) -> int:
    """Return the process id of the machine's systemd once it starts units."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and nspawn.poll() is None:
        children = subprocess.run(["pgrep", "-P", str(nspawn.pid)], capture_output=True, text=True).stdout.split()
        if len(children) == 1:
            machine = Machine(int(children[0]))
            state = machine.run("systemctl", "is-system-running", check=False).strip()
            if state in ("starting", "running", "degraded"):
                return machine.pid
        time.sleep(0.1)
    said = console.read_text(errors="replace").strip().splitlines()[-3:]
    pytest.skip(f"systemd does not boot here: {' / '.join(said)}")
