"""A domain's names, locks, readiness and sweeping."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio
import trio.testing

from taktora_trio import ConfigError, DomainInUse, TransportError
from taktora_trio.transport import folder
from taktora_trio.transport.domain import Domain, Role
from taktora_trio.transport.folder import open_folder
from taktora_trio.transport.node import config_of, open_node
from taktora_trio.transport.orphans import wait_for_orphans
from taktora_trio.transport.segments import SHM
from tests.patience import PATIENCE


def start_holder(domain: Domain, *roles: str, rounds: int = 1) -> subprocess.Popen[str]:
    """Another process that holds these roles, until it is killed or gets a line; and again at the next one."""
    code = textwrap.dedent(f"""
        import sys
        from taktora_trio.transport.domain import Domain
        for _ in range({rounds}):
            with Domain({domain.name!r}).hold(*{roles!r}):
                print("held", flush=True)
                sys.stdin.readline()
            print("left", flush=True)
            sys.stdin.readline()
    """)
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=10)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "x" * 65, "-a", "ä", "a\n"])
def test_bad_names(name: str) -> None:
    with pytest.raises(ConfigError, match="--domain"):
        Domain(name)


@pytest.mark.parametrize("name", ["a", "plant-7.line_2", "x" * 64])
def test_good_names_are_short_enough_for_sockets(name: str) -> None:
    domain = Domain(name)
    with domain.hold("owner"):
        longest = domain.root / f"{domain.prefix}{2**128 - 1}.event"
        room = len(str(2**32)) - len(str(os.geteuid()))  # for the longest user id
        assert len(str(longest)) + room <= 107  # unix(7)


def test_domains_are_apart() -> None:
    names = ["a", "a_b", "ab", "a.b", "x" * 63, "x" * 64, "x" * 62 + "y"]
    domains = [Domain(name) for name in names]
    with contextlib.ExitStack() as stack:
        for number, domain in enumerate(domains):
            assert domain.files() == [], f"{domain} takes another's files for its own, after {number}"
            stack.enter_context(domain.hold("owner"))
        assert len({domain.prefix for domain in domains}) == len(names)
        assert len({domain.root for domain in domains}) == len(names)
    assert [file for domain in domains for file in domain.files()] == []


def test_each_run_has_files_of_its_own(domain: Domain) -> None:
    with domain.hold("owner"):
        first = domain.root, domain.prefix
    with domain.hold("owner"):
        assert (domain.root, domain.prefix) != first
    with pytest.raises(TransportError, match="has no owner"):
        config_of(domain)


def test_a_role_is_held_once(domain: Domain) -> None:
    assert domain.holder("owner") is None
    with domain.hold("owner"):
        assert domain.holder("owner") == os.getpid()
        assert domain.holder("gateway") is None
        with pytest.raises(DomainInUse, match=rf"pid {os.getpid()}"), domain.hold("owner"):
            pass
        with domain.hold("plugin", "gateway"):
            assert domain.holder("gateway") == os.getpid()
    assert domain.holder("owner") is None


def test_a_role_of_another_process_ends_with_it(domain: Domain) -> None:
    process = start_holder(domain, "owner")
    assert domain.holder("owner") == process.pid
    process.kill()
    end(process)
    assert domain.holder("owner") is None
    assert domain.files(), "it was killed, so it could not clean up"
    with domain.hold("owner"):
        pass


def test_the_last_one_to_leave_cleans_up(domain: Domain) -> None:
    process = start_holder(domain, "gateway")
    with domain.hold("owner"):
        segment = SHM / f"{domain.prefix}segment"
        segment.touch()
        (domain.root / f"{domain.prefix}1.event").touch()
    assert segment.exists(), "the gateway is still there"
    end(process)
    assert not segment.exists()
    assert domain.files() == []


def test_an_owner_spares_what_is_in_use(domain: Domain) -> None:
    process = start_holder(domain, "gateway")
    with domain.hold("owner"):
        root, segment = domain.root, SHM / f"{domain.prefix}segment"
        segment.touch()
    with domain.hold("owner"):
        assert domain.root == root
        assert segment.exists()
        process.kill()  # it can't remove anything
        end(process)
    assert not root.exists()
    assert not segment.exists()


def test_what_a_killed_run_has_left_is_removed_and_counted(domain: Domain, caplog: pytest.LogCaptureFixture) -> None:
    process = start_holder(domain, "owner")
    root, left = domain.root, domain.files()
    (root / "mine.txt").touch()
    process.kill()
    end(process)
    with caplog.at_level("INFO"), domain.hold("owner"):
        assert domain.root != root
        assert not set(left) & set(domain.files())
    assert [record.getMessage() for record in caplog.records if "killed run" in record.getMessage()] == [
        f"domain {domain.name}: removed {len(left) - 1} files that a killed run has left"  # and the folder itself
    ]
    kept = Path(f"{root}~gone/mine.txt")
    assert f"{kept} was not made by this library" in caplog.text
    assert kept.exists()
    kept.unlink()
    kept.parent.rmdir()


def test_who_removes_files_may_be_stopped_and_go_on_later(domain: Domain) -> None:
    """It was the last, so it removes what it has used; meanwhile there is another run."""
    code = f"""
        import os, signal
        from taktora_trio.transport import domain, folder
        remove = folder.remove_generation
        def stopped(*arguments):
            os.kill(os.getpid(), signal.SIGSTOP)
            return remove(*arguments)
        domain.remove_generation = stopped
        with domain.Domain({domain.name!r}).hold("owner"):
            print("held", flush=True)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as leaving:
        os.waitid(os.P_PID, leaving.pid, os.WSTOPPED)
        with domain.hold("owner"):
            before = domain.files()
            assert str(domain.root) in map(str, before)
            leaving.send_signal(signal.SIGCONT)
            assert leaving.wait(10) == 0
            assert domain.files() == before


async def test_a_half_that_comes_while_the_owner_changes_has_no_files_taken_away(domain: Domain) -> None:
    """An owner that comes is not ready before it has decided whether it makes new files."""
    process = start_holder(domain, "owner")
    domain.announce_ready()
    process.kill()
    end(process)
    seen: list[tuple[bool, bool]] = []
    with pytest.MonkeyPatch.context() as patch:
        held = Domain.holder

        def holder(self: Domain, role: Role) -> int | None:
            if role in ("plugin", "gateway"):
                seen.append((self.is_ready(), self.generation is not None))
            return held(self, role)

        patch.setattr(Domain, "holder", holder)
        with domain.hold("owner"):
            pass
    assert seen[0] == (False, True)


async def test_whoever_waits_is_woken_when_the_owner_is_ready(domain: Domain) -> None:
    woken: list[str] = []

    async def wait() -> None:
        await domain.wait_until_ready()
        woken.append("gateway")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        with domain.hold("owner"):
            assert woken == []
            domain.announce_ready()
            with trio.fail_after(PATIENCE):
                while not woken:
                    await trio.testing.wait_all_tasks_blocked(0.001)
            await domain.wait_until_ready()  # and from now on at once


async def test_whoever_waits_is_not_forgotten_when_another_comes_and_goes(domain: Domain) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(domain.wait_until_ready)
        await trio.testing.wait_all_tasks_blocked()
        with domain.hold("owner"):
            pass  # it ends before it is ready
        with domain.hold("owner"):
            with trio.fail_after(PATIENCE):
                domain.announce_ready()
                while nursery.child_tasks:
                    await trio.testing.wait_all_tasks_blocked(0.001)


def test_all_who_leave_at_once_leave_nothing(domain: Domain) -> None:
    holders = [start_holder(domain, role, rounds=30) for role in ("owner", "plugin", "gateway")]
    for left in range(30):
        if left > 0:
            tell_all(holders, "held")
        tell_all(holders, "left")
        assert domain.files() == []
        assert not domain.root.exists()
    for process in holders:
        end(process)
        assert process.returncode == 0


def tell_all(holders: list[subprocess.Popen[str]], answer: str) -> None:
    """Tell all to go on, at once, and wait until each has."""
    for process in holders:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in holders:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{answer}\n"


async def test_readiness_ends_with_the_owner(domain: Domain) -> None:
    process = start_holder(domain, "owner")
    domain.announce_ready()
    assert domain.is_ready()
    process.kill()
    end(process)
    assert not domain.is_ready()
    with domain.hold("owner"):
        assert not domain.is_ready()


async def test_waiting_can_be_cancelled_and_leaves_nothing(domain: Domain) -> None:
    with trio.move_on_after(0.05) as scope:
        await domain.wait_until_ready()
    assert scope.cancelled_caught
    with open_folder() as folder:
        assert [name for name in os.listdir(folder) if name.startswith(f"{domain.label}~")] == []


def test_the_pipe_of_one_that_was_killed_while_it_waited_is_removed(domain: Domain) -> None:
    code = f"""
        import trio, trio.testing
        from taktora_trio.transport.domain import Domain
        async def main():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Domain({domain.name!r}).wait_until_ready)
                await trio.testing.wait_all_tasks_blocked()
                print("waiting", flush=True)
        trio.run(main)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        process.kill()
    with open_folder() as folder, domain.hold("owner"):
        pipes = [name for name in os.listdir(folder) if name.startswith(f"{domain.label}~waiting.")]
        assert len(pipes) == 1
        domain.announce_ready()
        assert not set(pipes) & set(os.listdir(folder))


def test_a_holder_that_stands_still_is_named_as_such(domain: Domain) -> None:
    process = start_holder(domain, "gateway")
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    with (
        pytest.raises(DomainInUse, match=f"pid {process.pid}, which stands still: `kill -CONT"),
        domain.hold("gateway"),
    ):
        pass
    process.kill()
    end(process)


async def test_orphans_that_are_ending_are_waited_for(domain: Domain) -> None:
    process = start_holder(domain, "gateway")
    with pytest.raises(DomainInUse, match="gateway"):
        await wait_for_orphans(domain, 0.05)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_orphans, domain)
        await trio.testing.wait_all_tasks_blocked(0.01)
        process.kill()
        end(process)
    domain.remove_if_alone()


async def test_what_iceoryx2_leaves_open_to_others_is_closed_to_them(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a version would that draws its ids from a file of another name than the one that is made for it."""
    monkeypatch.setattr(folder, "_NODE_IDS", "unknown")
    modes: list[int] = []
    fchmod = os.fchmod

    def change(fd: int, mode: int) -> None:
        modes.append(mode)
        fchmod(fd, mode)

    monkeypatch.setattr(os, "fchmod", change)
    with domain.hold("owner"):
        async with open_node(domain, "test"):
            segments = [path for path in domain.files() if path.parent == SHM]
            assert any(path.name.endswith(".global_mgmt") for path in segments)
            assert {path.stat().st_mode & 0o777 for path in segments} == {0o600}
    assert modes == [0o600], "iceoryx2 has made it for its user alone: decision 13 is out of date"
