"""The web page in a browser: an operator sees at a glance how a run is, whatever happens to it."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trio

from taktora_trio.transport.domain import Domain
from tests.command import Command, open_command, open_run
from tests.endpoint.asking import ask
from tests.mosquitto import Mosquitto

from .browser import CHROMIUM, Browser, Tab, open_browser

THERMOSTAT = "examples.thermostat:deployment"
TOKEN = "a-token-for-the-browser"
SECRET = "s3cret-of-the-broker"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"),
    pytest.mark.skipif(
        find_spec("playwright") is None, reason="playwright is not installed (pip install --group operate)"
    ),
]

# The contrast of each text that is seen with what is behind it (WCAG 2.2, 1.4.3), where it is too low.
FAINT = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const light = (rgb) => rgb.map((one) => one / 255)
    .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const { rgb, a } = parse(getComputedStyle(at).backgroundColor);
      if (a === 1) return rgb;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("h1,h2,h3,p,li,dt,dd,th,td,span,strong,time,button,label,a")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("svg, .skip, .hidden")) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color).rgb), light(behind(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(`${element.tagName} ${element.textContent}`);
  }
  return faint;
}"""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as opened:
        yield opened


async def page_of(run: Command) -> str:
    entry = await run.until_logged("endpoint: probes, metrics and a page at http://127.0.0.1:")
    return str(entry["message"]).rpartition(" ")[2]


async def evaluate(browser: Browser, tab: Tab, code: str) -> Any:
    return await browser.do(lambda _: tab.page.evaluate(code))


async def test_what_happens_to_a_run_is_seen(broker: Mosquitto, domain: Domain, browser: Browser) -> None:
    more = ("--endpoint", "127.0.0.1:0", "--endpoint-page", "--gateway-policy", "watchdog=off,initial=3,maximum=3")
    secret = broker.url.replace("mqtt://", f"mqtt://plant:{SECRET}@")
    arguments = ("run", THERMOSTAT, "--mode", "split", "--broker", secret, "--domain", domain.name, *more)
    async with open_command(*arguments) as run:
        url = await page_of(run)
        tab = await browser.open_tab(url)
        await browser.shows(tab, "#word", "All is well")
        await browser.shows(tab, "#domain", domain.name)
        await browser.shows(tab, "#rows tr", "readings")
        await browser.shows(tab, ".rate", re.compile(r"\d"))
        await browser.shows(tab, "#flow .box", "gateway")
        await browser.picture(tab, "1-well")

        gateway = run.half("gateway")
        run.signal(signal.SIGSTOP, gateway)
        await browser.shows(tab, "#word", "Broken")
        await browser.shows(tab, "#reasons", "the gateway is stopped")
        await browser.shows(tab, "#flow .box.bad", "gateway")
        await browser.picture(tab, "2-gateway-stopped")
        run.signal(signal.SIGCONT, gateway)
        await browser.shows(tab, "#word", "All is well")

        run.signal(signal.SIGKILL, gateway)
        await browser.shows(tab, "#word", "Broken")
        await browser.shows(tab, "#reasons", "connector mqtt is Down")
        await browser.picture(tab, "3-gateway-killed")
        await browser.shows(tab, "#word", "All is well")
        await browser.shows(tab, "#history li", "Down")
        await browser.shows(tab, "#history li .why", "SIGKILL")

        plugin = run.half("plugin")
        run.signal(signal.SIGSTOP, plugin)
        await browser.shows(tab, "#reasons", "the plugin is stopped")
        await browser.picture(tab, "4-plugin-stopped")
        run.signal(signal.SIGCONT, plugin)
        await browser.shows(tab, "#word", "All is well")

        await broker.stop()
        await browser.shows(tab, "#word", "Impaired")
        await browser.shows(tab, "#reasons", "connector mqtt is Connecting")
        await browser.picture(tab, "5-broker-gone")
        assert (await evaluate(browser, tab, "document.title")).startswith("! ")

        shown = await browser.do(lambda _: tab.page.content())
        metrics = (await ask(("127.0.0.1", int(url.rpartition(":")[2].rstrip("/"))), "/metrics")).text
        for seen in (shown, metrics):
            assert "plant" in seen
            assert SECRET not in seen
        assert tab.complaints == []
        assert all(asked.startswith(url) for asked in tab.asked)

        run.signal(signal.SIGTERM)
        await browser.shows(tab, "#word", "No contact")
        await browser.picture(tab, "6-run-ended")
        assert await run.wait() == 0


async def test_every_width_in_light_and_dark(broker: Mosquitto, domain: Domain, browser: Browser) -> None:
    more = ("--endpoint", "127.0.0.1:0", "--endpoint-page")
    async with open_run(THERMOSTAT, "in-process", broker, domain, *more) as run:
        url = await page_of(run)
        for scheme in ("light", "dark"):
            for width in (360, 768, 1280, 1920):
                tab = await browser.open_tab(url, width=width, scheme=scheme)
                await browser.shows(tab, "#word", "All is well")
                await browser.shows(tab, "#rows tr", "readings")
                await browser.picture(tab, f"{scheme}-{width}")
                assert await evaluate(browser, tab, "document.documentElement.scrollWidth") <= width
                assert await evaluate(browser, tab, FAINT) == []
                assert tab.complaints == []
                await browser.do(lambda _: tab.page.close())  # noqa: B023 - it is called before the next one
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def test_all_of_it_by_keyboard(broker: Mosquitto, domain: Domain, browser: Browser) -> None:
    more = ("--endpoint", "127.0.0.1:0", "--endpoint-page")
    async with open_run(THERMOSTAT, "in-process", broker, domain, *more) as run:
        tab = await browser.open_tab(await page_of(run))
        await browser.shows(tab, "#rows tr", "readings")

        async def press(*keys: str) -> str:
            """Press these keys, and return what has the focus then."""

            def work(_: Any) -> str:
                for key in keys:
                    tab.page.keyboard.press(key)
                return str(tab.page.evaluate("(document.activeElement.id || document.activeElement.textContent)"))

            return await browser.do(work)

        assert await press("Tab") == "Skip to the channels"
        assert await press("Tab") == "pause"
        await press("Enter")
        await browser.shows(tab, "#live", "paused")
        await press("Enter")
        await browser.shows(tab, "#live", "live")
        assert await press("Tab") == "filter"
        await browser.do(lambda _: tab.page.keyboard.type("no such channel"))
        await browser.do(lambda _: tab.page.locator("#none").wait_for())
        await press("Control+a", "Delete")
        await browser.shows(tab, "#rows tr", "readings")
        names = [await press("Tab") for _ in range(3)]
        assert names == ["Channel", "Way", "Messages/s"]
        await press("Enter")
        await browser.do(lambda _: tab.page.locator('th[aria-sort="descending"]').wait_for())
        rates = "[...document.querySelectorAll('.rate')].map((one) => Number(one.textContent))"
        found = await evaluate(browser, tab, rates)
        assert found == sorted(found, reverse=True)
        await trio.sleep(2.5)  # two updates
        assert await press() == "Messages/s"  # and what had the focus has it still
        outline = await evaluate(browser, tab, "getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        assert tab.complaints == []
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def test_with_a_token_the_page_asks_for_it_once(
    broker: Mosquitto, domain: Domain, browser: Browser, tmp_path: Path
) -> None:
    token = tmp_path / "endpoint-token"
    token.write_text(TOKEN)
    more = ("--endpoint", "127.0.0.1:0", "--endpoint-page", "--endpoint-token-file", str(token))
    async with open_run(THERMOSTAT, "in-process", broker, domain, *more) as run:
        url = await page_of(run)
        tab = await browser.open_tab(url, width=360)
        await browser.picture(tab, "token")

        def send(text: str) -> None:
            tab.page.keyboard.type(text)  # the field has the focus
            tab.page.keyboard.press("Enter")

        await browser.do(lambda _: send("not-the-token-of-it"))
        await browser.shows(tab, "[role=alert]", "That is not the token")
        await browser.do(lambda _: send(TOKEN))
        await browser.shows(tab, "#word", "All is well")
        [cookie] = await browser.do(lambda _: tab.page.context.cookies())
        assert (cookie["httpOnly"], cookie["sameSite"], TOKEN in str(cookie)) == (True, "Strict", False)
        assert TOKEN not in "".join(tab.asked)
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
