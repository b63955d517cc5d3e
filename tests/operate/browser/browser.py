"""A browser in a thread of its own: its library is synchronous, and keeps to the thread that has started it."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import trio

from tests.patience import PATIENCE

__all__ = ["CHROMIUM", "Browser", "Tab", "open_browser"]

T = TypeVar("T")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@attrs.define
class Tab:
    """A page of the browser, in the browser's thread; what is wrong with it is collected."""

    page: Any
    complaints: list[str] = attrs.field(factory=list)
    asked: list[str] = attrs.field(factory=list)
    """The address of each request."""


class Browser:
    """Does what it is given, in its thread."""

    def __init__(self, tasks: queue.SimpleQueue[Callable[[Any], None] | None]) -> None:
        self._tasks = tasks

    async def do(self, work: Callable[[Any], T]) -> T:
        """Call `work` with the browser, and return what it returns."""
        send, receive = trio.open_memory_channel[tuple[T | None, BaseException | None]](1)
        token = trio.lowlevel.current_trio_token()

        def task(browser: Any) -> None:
            try:
                done: tuple[T | None, BaseException | None] = (work(browser), None)
            except BaseException as exc:  # noqa: BLE001 - the test is to get it, whatever it is
                done = (None, exc)
            token.run_sync_soon(send.send_nowait, done)

        self._tasks.put(task)
        with trio.fail_after(2 * PATIENCE):
            result, error = await receive.receive()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    async def open_tab(self, url: str, *, width: int = 1280, height: int = 1400, scheme: str = "light") -> Tab:
        """Open a page."""

        def work(browser: Any) -> Tab:
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab = Tab(page)
            page.set_default_timeout(PATIENCE * 1000)
            page.on("console", lambda said: tab.complaints.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: tab.complaints.append(str(error)))
            page.on("request", lambda request: tab.asked.append(request.url))
            page.goto(url)
            return tab

        return await self.do(work)

    async def shows(self, tab: Tab, selector: str, text: str | re.Pattern[str]) -> None:
        """Wait until an element has this text in it."""
        await self.do(lambda _: tab.page.locator(selector, has_text=text).first.wait_for())

    async def picture(self, tab: Tab, name: str) -> None:
        """Keep a picture of it, if pictures are wanted."""
        if folder := os.environ.get("OPERATE_SCREENS"):
            path = Path(folder, f"{name}.png")
            await self.do(lambda _: tab.page.screenshot(path=path, full_page=True))


@contextlib.asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Run a browser without a screen, for as long as the block lasts."""
    from playwright.sync_api import sync_playwright

    tasks: queue.SimpleQueue[Callable[[Any], None] | None] = queue.SimpleQueue()

    def serve() -> None:
        with sync_playwright() as playwright:
            sandbox = [] if os.getuid() else ["--no-sandbox"]  # root can't have one
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
            while (task := tasks.get()) is not None:
                task(browser)
            browser.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, serve)
        try:
            yield Browser(tasks)
        finally:
            tasks.put(None)
