"""What `doctor` says of the machine: libraries, clock, limits, disks, and files that killed runs have left."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import trio

from taktora_trio import Deployment, MqttConnector, MqttRouting, Outbound, Store
from taktora_trio.connectors.finding import Finding, ok
from taktora_trio.connectors.plan import specs_of
from taktora_trio.operate.doctor.clock import look_at_clock, look_at_state
from taktora_trio.operate.doctor.descriptors import examine_limits
from taktora_trio.operate.doctor.disk import examine_disk, examine_state_folder
from taktora_trio.operate.doctor.examination import _locally
from taktora_trio.operate.doctor.leftovers import examine_leftovers
from taktora_trio.operate.doctor.packages import examine_packages, parse_requirement
from taktora_trio.operate.doctor.python import examine_python
from taktora_trio.store.disk import Disk
from taktora_trio.store.writer import _LOCK
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.folder import new_generation, open_folder, remove_generation
from taktora_trio.transport.segments import SHM

NEEDS = [
    "trio>=0.30",
    "iceoryx2<0.11,>=0.10",
    "old>=2.1,<3",
    "away>=1",
    "of-old-pythons>=1; python_version < '3.9'",
    "rich>=13.6; extra == 'chaos'",
    "pyyaml>=6.0.2; extra == 'asyncapi'",
    "amqtt>=0.11; extra == 'embedded'",
]
THERE = {"taktora-trio": "1.0", "trio": "0.30.0", "iceoryx2": "0.11.0", "old": "2.0.9", "rich": "13.5.2"}


def version_of(name: str) -> str:
    if name not in THERE:
        raise PackageNotFoundError(name)
    return THERE[name]


def test_packages_are_compared_with_their_floors() -> None:
    findings = list(examine_packages(version_of, lambda name: NEEDS))
    assert [(one.status, one.text.partition(",")[0]) for one in findings] == [
        ("fail", "iceoryx2 0.11.0"),
        ("fail", "old 2.0.9"),
        ("fail", "away>=1 is missing"),
        ("warn", "rich 13.5.2"),
        ("ok", "taktora-trio 1.0; 1 libraries that it needs are as it needs them"),
        ("ok", "optional"),
    ]
    assert findings[3].remedy == "pip install 'taktora-trio[chaos]==1.0'"
    assert "amqtt (embedded)" in findings[-1].text


def test_a_package_that_is_not_installed_as_one() -> None:
    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    [finding] = examine_packages(nothing)
    assert finding.status == "warn"


def test_the_requirements_of_this_package_can_be_read() -> None:
    assert {one.status for one in examine_packages()} == {"ok"}
    assert {one.status for one in examine_python()} == {"ok"}
    with pytest.raises(ValueError, match="no requirement"):
        parse_requirement("@ nothing")


def test_the_clock() -> None:
    now = 1_800_000_000.0
    assert look_at_clock(now, (True, 0.01)).status == "ok"
    assert look_at_clock(now, None).status == "ok"
    assert look_at_clock(now, (False, 16.0)).status == "warn"
    assert look_at_clock(1000.0, (True, 0.01)).status == "fail"
    state = look_at_state()
    assert state is None or state[1] >= 0


OUT = Outbound("out", bytes, MqttRouting("t", qos=1), store=Store())


async def app(host: object) -> None:
    await trio.sleep_forever()


@pytest.fixture
def deployment() -> Deployment:
    return Deployment("doctored", app, [MqttConnector([OUT])])


def test_too_few_descriptors(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = specs_of(deployment.connectors)
    assert [one.status for one in examine_limits(specs)] == ["ok"]
    few = {resource.RLIMIT_NOFILE: (20, 40), resource.RLIMIT_FSIZE: (4096, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda which: few[which])
    assert [(one.check, one.status) for one in examine_limits(specs)] == [
        ("descriptors", "fail"),
        ("file size", "fail"),
    ]
    assert [(one.check, one.status) for one in examine_limits([])] == [("descriptors", "warn")]


def test_a_store_that_can_be_used(deployment: Deployment, tmp_path: Path) -> None:
    findings = list(examine_disk(deployment.with_store(tmp_path), "doctored", runs=False))
    assert {one.check for one in findings} == {"store", "sync"}
    assert not [one for one in findings if one.status == "fail"]
    assert list(tmp_path.iterdir()) == []  # a folder that a run would make is not made


def test_a_store_that_another_process_uses(deployment: Deployment, tmp_path: Path) -> None:
    deployment = deployment.with_store(tmp_path)
    [store] = deployment.stores("doctored").values()
    store.folder.mkdir(parents=True, exist_ok=True)
    lock = Disk().lock(store.folder / _LOCK)
    try:
        failed = [one for one in examine_disk(deployment, "doctored", runs=False) if one.status == "fail"]
        assert "is used by another process" in failed[0].text
        assert not [one for one in examine_disk(deployment, "doctored", runs=True) if one.status == "fail"]
    finally:
        Disk().close(lock)


def test_a_store_where_a_file_is(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    findings = list(examine_disk(deployment.with_store(tmp_path / "file" / "store"), "doctored", runs=True))
    assert [(one.check, one.status) for one in findings] == [("store", "fail")]
    assert "is no folder" in findings[0].text


def test_a_store_in_memory_and_one_that_is_larger_than_its_disk(deployment: Deployment) -> None:
    found = list(examine_disk(deployment.with_store(SHM), "doctored", runs=True))
    assert [one.status for one in found if one.check == "store"] == ["warn"]


def test_no_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    assert [one.status for one in examine_state_folder()] == ["ok"]
    (tmp_path / "state").touch()
    assert [one.status for one in examine_state_folder()] == ["warn"]


def leftovers_of(token: str) -> list[Finding]:
    return [one for one in examine_leftovers() if token in one.remedy]


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A run of domain `a-doctor` was killed."""
    monkeypatch.setattr("taktora_trio.operate.doctor.leftovers._MOST", 10_000)  # other tests may leave some now
    with open_folder() as folder:
        generation = new_generation(folder, "a-doctor")
        try:
            yield generation.name[-8:]
        finally:
            remove_generation(folder, generation)


def test_leftovers_are_shown_with_what_removes_them(token: str) -> None:
    [found] = leftovers_of(token)
    assert found.status == "warn"
    assert "2 files of domain 'a-doctor', 4 KiB" in found.text
    command = found.remedy.rpartition(": ")[2]
    assert os.system(command) == 0
    assert leftovers_of(token) == []


def test_what_a_process_uses_is_no_leftover(token: str) -> None:
    with next(SHM.glob(f"tk{token}_*")).open("rb"):
        assert leftovers_of(token) == []
    assert leftovers_of(token)


def test_a_domain_of_which_somebody_has_a_role_is_no_leftover(token: str) -> None:
    with Domain("a-doctor").hold("gateway"):
        assert leftovers_of(token) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a file of another user")
def test_leftovers_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    path = SHM / "tkdoctors2_data"
    path.write_bytes(bytes(8192))
    try:
        os.chown(path, 54_321, 54_321)
        [found] = leftovers_of("doctors2")
        assert "1 run of another user (uid 54321): 8 KiB" in found.text
        assert "no process uses it" in found.text
        with path.open("rb"):
            assert leftovers_of("doctors2") == []
        monkeypatch.setattr(os, "geteuid", lambda: 12_345)  # who can't see what other users' processes have open
        os.chown(path, 0, 0)
        found = next(one for one in examine_leftovers() if "uid 0)" in one.text)
        assert (found.status, found.remedy) == ("ok", "")
    finally:
        path.unlink()


async def test_a_check_that_hangs_is_left_behind(autojump_clock: trio.testing.MockClock) -> None:
    released = threading.Event()

    def hang() -> Iterator[Finding]:
        released.wait()
        yield ok("disk", "too late")

    [finding] = await _locally("disk", hang)
    released.set()
    assert (finding.check, finding.status, finding.text) == ("disk", "fail", "not done within 10 s")


async def test_a_check_that_breaks_says_so() -> None:
    def break_() -> Iterator[Finding]:
        raise OSError("\x1b[2J")
        yield

    [finding] = await _locally("disk", break_)
    assert (finding.status, finding.text) == ("fail", "this could not be looked at: OSError: \\x1b[2J")
