"""Roles are held by processes: a child that was forked holds none, whoever forked it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from taktora_trio.errors import DomainInUse
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.locks import holder_of, release, try_lock

FORKS = {
    "os.fork": "import os; child = os.fork()",
    "libc's fork": "import ctypes; child = ctypes.CDLL(None).fork()",  # no hook of Python's is called
    "multiprocessing": """
        import multiprocessing, time
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
        child = worker.pid
    """,
}


def start(code: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_that_was_forked_does_not_keep_the_roles_of_a_killed_parent(domain: Domain, fork: str) -> None:
    process = start(
        f"""
from taktora_trio.errors import DomainInUse
from taktora_trio.transport.domain import Domain
with Domain({domain.name!r}).hold("owner", "plugin", "gateway"):
{textwrap.indent(textwrap.dedent(FORKS[fork]), "    ")}
    if child:
        print(child, flush=True)
    input()
"""
    )
    child = int(answer(process))
    try:
        assert domain.holder("owner") == process.pid
        process.kill()
        process.wait()
        os.kill(child, 0)
        assert domain.holder("owner") is None
        with domain.hold("owner", "plugin", "gateway"):
            assert domain.holder("gateway") == os.getpid()
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_a_child_that_leaves_the_block_takes_nothing_from_its_parent(domain: Domain) -> None:
    process = start(
        f"""
        import os
        from taktora_trio import DomainInUse
        from taktora_trio.transport.domain import Domain
        domain = Domain({domain.name!r})
        with domain.hold("owner", "plugin"):
            child = os.fork()
            if child == 0:
                assert domain.holder("owner") == os.getppid()
                try:
                    with domain.hold("plugin"):
                        print("it has its parent's role", flush=True)
                except DomainInUse:
                    pass
            else:
                os.waitpid(child, 0)
                print(len(domain.files()), flush=True)
                input()
        """
    )
    assert int(answer(process)) == len(domain.files()) > 0
    assert domain.holder("owner") == domain.holder("plugin") == process.pid
    process.communicate("\n", timeout=10)
    assert process.returncode == 0


def test_asking_does_not_let_go(domain: Domain) -> None:
    """Closing any descriptor of the file would, so nobody may open another (fcntl_locking(2))."""
    with domain.hold("owner"), Domain(f"{domain.name}-2").hold("owner"):
        assert [domain.holder(role) for role in ("owner", "plugin")] == [os.getpid(), None]
        code = f"from taktora_trio.transport.domain import Domain; print(Domain({domain.name!r}).holder('owner'))"
        process = start(code)
        assert int(answer(process)) == os.getpid()
        process.communicate()
    assert Domain(f"{domain.name}-2").files() == []


def test_every_domain_and_role_has_a_lock_of_its_own(domain: Domain) -> None:
    taken = [(f"{domain.name}{number}", role) for number in range(100) for role in ("owner", "plugin", "gateway")]
    for each in taken:
        assert try_lock(*each)
        assert not try_lock(*each), "the kernel would let one process have it twice"
        assert holder_of(*each) == os.getpid()
    for each in taken:
        release(*each)
        assert holder_of(*each) is None


def test_a_role_that_is_shared_is_shared_with_those_that_share_it(domain: Domain) -> None:
    """So gateways of single connectors can be several; and none is there beside a gateway of all."""
    hold = f"""
from taktora_trio.errors import DomainInUse
from taktora_trio.transport.domain import Domain
with Domain({domain.name!r}).hold("gateway", shared=SHARED):
    print("held", flush=True)
    input()
"""
    with start(hold.replace("SHARED", "True")) as other:
        assert answer(other) == "held"
        with domain.hold("gateway", shared=True):
            assert domain.holder("gateway") is not None
        with pytest.raises(DomainInUse, match=f"pid {other.pid}"), domain.hold("gateway"):
            raise AssertionError("it was held")
        other.communicate("")
    with start(hold.replace("SHARED", "False")) as other:
        assert answer(other) == "held"
        with pytest.raises(DomainInUse, match=f"pid {other.pid}"), domain.hold("gateway", shared=True):
            raise AssertionError("it was held")
        other.communicate("")
