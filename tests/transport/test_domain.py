"""A domain's names, locks, readiness and sweeping."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import trio
import trio.testing

from taktora_trio import ConfigError, DomainInUse
from taktora_trio.transport.domain import SHM, Domain


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
    longest = domain.root / f"{domain.prefix}{2**128 - 1}.event"
    assert len(str(longest)) <= 107  # unix(7)


def test_domains_are_apart() -> None:
    names = ["a", "a_b", "ab", "a.b", "x" * 63, "x" * 64, "x" * 62 + "y"]
    assert len({Domain(name).prefix for name in names}) == len(names)
    assert len({Domain(name).root for name in names}) == len(names)
    prefixes = [Domain(name).prefix for name in names]
    assert not any(a != b and a.startswith(b) for a in prefixes for b in prefixes)


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
        (SHM / f"{domain.prefix}segment").touch()
        (domain.root / "something").touch()
    assert (SHM / f"{domain.prefix}segment").exists(), "the gateway is still there"
    end(process)
    assert domain.files() == []


def test_sweeping_spares_what_is_in_use(domain: Domain) -> None:
    stale = SHM / f"{domain.prefix}stale"
    process = start_holder(domain, "gateway")
    with domain.hold("owner"):
        stale.touch()
        domain.sweep()
        assert stale.exists()
        end(process)
        domain.sweep()
        assert not stale.exists()
        assert domain.holder("owner") == os.getpid()


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
            with trio.fail_after(2):
                while not woken:
                    await trio.testing.wait_all_tasks_blocked(0.001)
            await domain.wait_until_ready()  # and from now on at once


async def test_whoever_waits_is_not_forgotten_when_another_comes_and_goes(domain: Domain) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(domain.wait_until_ready)
        await trio.testing.wait_all_tasks_blocked()
        with domain.hold("owner"):
            domain.sweep()  # and ends before it is ready
        with domain.hold("owner"):
            with trio.fail_after(2):
                domain.announce_ready()
                await trio.testing.wait_all_tasks_blocked(0.01)
    assert nursery.child_tasks == frozenset()


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
    """To go on, all at once; and wait until each has."""
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
        domain.sweep()
        assert not domain.is_ready()


async def test_waiting_can_be_cancelled_and_leaves_nothing(domain: Domain) -> None:
    with trio.move_on_after(0.05) as scope:
        await domain.wait_until_ready()
    assert scope.cancelled_caught


async def test_settle_waits_for_halves_that_are_ending(domain: Domain) -> None:
    process = start_holder(domain, "gateway")
    with pytest.raises(DomainInUse, match="gateway"):
        await domain.settle(0.05)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(domain.settle)
        await trio.testing.wait_all_tasks_blocked(0.01)
        process.kill()
        end(process)
    domain.remove_if_alone()
