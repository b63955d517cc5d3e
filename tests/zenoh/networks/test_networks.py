"""Deployments on several hosts: routers that are killed, links that are cut, and hosts that are gone and back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from tests.hosts.network import Network, open_network
from tests.zenoh.networks.counting import open_counting
from tests.zenoh.networks.nodes import Node, endpoint, open_router

pytestmark = [pytest.mark.zenoh, pytest.mark.timeout(150)]


@pytest.fixture
def net() -> Iterator[Network]:
    """On loopback where there are no namespaces."""
    with open_network() as network:
        yield network


def issue(folder: Path, address: str) -> tuple[Path, Path, Path]:
    """Return the files of an authority, and of a key and its certificate for this address."""
    authority = trustme.CA()
    ca_file, key, certificate = (folder / name for name in ("ca.pem", "key.pem", "certificate.pem"))
    authority.cert_pem.write_to_path(ca_file)
    issued = authority.issue_cert(address)
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(certificate)
    return ca_file, key, certificate


@contextlib.asynccontextmanager
async def open_mesh(net: Network, *names: str) -> AsyncIterator[dict[str, Node]]:
    """Routers on these hosts, each linked to all others."""
    async with contextlib.AsyncExitStack() as stack:
        routers = {}
        for number, name in enumerate(names):
            others = [endpoint(net.hosts[other]) for other in names[:number]]
            routers[name] = await stack.enter_async_context(open_router(net.hosts[name], *others))
        for router in routers.values():
            await router.until("link", len(names) - 1, there=True, what="router")
        yield routers


@pytest.mark.chaos
async def test_a_router_that_is_killed_is_gone_round(net: Network, tmp_path: Path) -> None:
    net.segment("lan", "r1", "r2", "r3", "a", "b")
    through = {name: endpoint(net.hosts[name]) for name in ("r1", "r2", "r3")}
    async with (
        open_mesh(net, "r1", "r2", "r3") as routers,
        open_counting(
            tmp_path,
            (net.hosts["a"], {"connect": [through["r1"], through["r2"]]}),
            (net.hosts["b"], {"connect": [through["r3"], through["r2"]]}),
        ) as counting,
    ):
        for name, run in (("r1", counting.sender), ("r3", counting.receiver)):
            await counting.until_more()
            await routers[name].kill()
            await run.until_event("connected", count=2)
            await counting.until_more()
        figures = await counting.finish()
    assert figures["acknowledged"].is_lossless, figures
    assert figures["plain"].reordered == figures["plain"].repeated == 0, figures
    print(figures)  # noqa: T201 - shown with -s


@pytest.mark.operate
async def test_a_link_that_is_cut_is_gone_round_and_nobody_else_notices(net: Network, tmp_path: Path) -> None:
    net.segment("s12", "h1", "h2")
    net.segment("s23", "h2", "h3")
    net.segment("s13", "h1", "h3")
    h1, h2, h3 = net.hosts.values()
    own = {"connect": ["tcp/127.0.0.1:7447"]}
    async with (
        open_router(h1) as r1,
        open_router(h2, endpoint(h1, "s12")),
        open_router(h3, endpoint(h2, "s23"), endpoint(h1, "s13")),
        open_counting(tmp_path, (h1, own), (h3, own)) as counting,
    ):
        await counting.until_more()
        net.cut("h1", "s13")
        await r1.until("link", there=False)
        await counting.until_more()
        net.join("h1", "s13")
        await r1.until("link", 3, there=True, what="router")
        await counting.until_more()
        for run in (counting.sender, counting.receiver):
            assert len(run.events("connected")) == 1
        figures = await counting.finish()
    assert figures["acknowledged"].is_lossless, figures
    assert figures["plain"].reordered == figures["plain"].repeated == 0, figures
    print(figures)  # noqa: T201 - shown with -s


@pytest.mark.parametrize(
    "whose", [pytest.param("receiver", marks=pytest.mark.chaos), pytest.param("sender", marks=pytest.mark.operate)]
)
async def test_a_host_that_is_cut_off_connects_again_and_nothing_acknowledged_is_lost(
    whose: str, net: Network, tmp_path: Path
) -> None:
    net.segment("lan", "r", "a", "b")
    r, a, b = net.hosts.values()
    own = {"connect": [endpoint(r)]}
    async with open_router(r) as router, open_counting(tmp_path, (a, own), (b, own)) as counting:
        run = counting.sender if whose == "sender" else counting.receiver
        await counting.until_more()
        net.cut("a" if whose == "sender" else "b")
        await run.until_event("health-connecting")
        await router.until("link", there=False, what="client")
        net.join("a" if whose == "sender" else "b")
        await run.until_event("connected", count=2)
        await counting.until_more(1000)
        figures = await counting.finish()
    assert figures["acknowledged"].is_lossless, figures
    assert figures["plain"].reordered == figures["plain"].repeated == 0, figures
    assert figures["plain"].lost > 0
    print(figures)  # noqa: T201 - shown with -s


async def test_peers_find_each_other_by_multicast_without_any_router(tmp_path: Path) -> None:
    with open_network(loopback=False) as net:
        net.segment("lan", "a", "b")
        a, b = net.hosts.values()
        peer = {"mode": "peer", "connect": []}
        async with open_counting(tmp_path, (a, peer), (b, peer)) as counting:
            await counting.until_more()
            net.cut("b")
            for run in (counting.sender, counting.receiver):
                await run.until_event("health-connecting")
            net.join("b")
            await counting.until_more(1000)
            figures = await counting.finish()
        assert figures["acknowledged"].is_lossless, figures
        assert figures["plain"].reordered == figures["plain"].repeated == 0, figures
        print(figures)  # noqa: T201 - shown with -s


async def test_a_host_that_is_gone_for_good_takes_its_presence_along_and_its_gateway_still_ends(
    net: Network, tmp_path: Path
) -> None:
    net.segment("lan", "r", "a", "b")
    r, a, b = net.hosts.values()
    own = {"connect": [endpoint(r)]}
    async with open_router(r) as router:
        await router.do("watch", key="presence/*")
        hears, sends = ({**own, "presence": f"presence/{name}"} for name in ("b", "a"))
        async with open_counting(tmp_path, (a, sends), (b, hears)) as counting:
            await counting.until_more()
            for name in ("a", "b"):
                await router.until("token", key=f"presence/{name}", there=True)
            net.cut("b")
            await router.until("token", key="presence/b", there=False)
            await counting.sender.until_event("health-degraded", "acknowledged")
            assert [one["there"] for one in router.told("token", key="presence/a")] == [True]
            # Both are stopped now: one that reaches nobody, and one whose messages nobody takes.


@pytest.mark.operate
async def test_a_router_on_another_host_by_tls(net: Network, tmp_path: Path) -> None:
    net.segment("lan", "r", "a", "b")
    r, a, b = net.hosts.values()
    ca_file, key, certificate = issue(tmp_path, r.address)
    tls = {"listen_certificate": str(certificate), "listen_private_key": str(key)}
    own = {"connect": [endpoint(r, protocol="tls")], "ca_file": str(ca_file)}
    async with (
        open_router(r, protocol="tls", transport__link__tls=tls),
        open_counting(tmp_path, (a, own), (b, own)) as counting,
    ):
        await counting.until_more()
        if net.can_cut:
            net.cut("a")
            await counting.sender.until_event("health-connecting")
            net.join("a")
            await counting.until_more()
        figures = await counting.finish()
    assert figures["acknowledged"].is_lossless, figures
