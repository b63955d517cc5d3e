"""Runs the thermostat in the split shape, and kills its gateway halfway: `make demo`.

It starts the same command that you would, shows what it says, kills the gateway's process with SIGKILL after half of
the time, and sums up what happened.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import attrs
import trio

SECONDS = 15.0
COMMAND = [
    *(sys.executable, "-m", "taktora_trio", "run", "examples.thermostat:deployment"),
    *("--mode", "split", "--broker", "embedded", "--for", f"{SECONDS:g}", "--log", "json"),
]
BOLD, DIM, RED, GREEN, PLAIN = (
    ("\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[0m") if sys.stdout.isatty() else [""] * 5
)


@attrs.define
class Story:
    """The events seen so far."""

    began: float = attrs.field(factory=time.monotonic)
    gateway: int = 0
    up: trio.Event = attrs.field(factory=trio.Event)
    killed_at: float | None = None
    down_after: float | None = None
    up_after: float | None = None
    setpoints: int = 0
    loop: str = ""

    def tell(self, colour: str, line: str) -> None:
        print(f"{DIM}{time.monotonic() - self.began:5.1f} s{PLAIN}  {colour}{line}{PLAIN}", flush=True)

    def app_said(self, line: str) -> None:
        if line.startswith("health:"):
            state = line.rpartition("-> ")[2]
            if state == "Up":
                self.up.set()
            if self.killed_at is not None:
                since = time.monotonic() - self.killed_at
                if state.startswith("Down") and self.down_after is None:
                    self.down_after = since
                elif state == "Up" and self.up_after is None:
                    self.up_after = since
            self.tell(GREEN if state == "Up" else RED if state.startswith("Down") else BOLD, line)
            return
        if line.startswith("new setpoint"):
            self.setpoints += 1
        elif line.startswith("control loop:"):
            self.loop = line.removeprefix("control loop: ")
        self.tell("", line)

    def was_logged(self, entry: dict[str, Any]) -> None:
        message = entry["message"]
        if message.startswith("gateway: started, pid "):
            self.gateway = int(message.rpartition(" ")[2])
        if not message.startswith("health of"):  # the app tells that itself
            self.tell(DIM, f"{entry['process']}: {message}")

    def summary(self, code: int) -> str:
        if self.down_after is None or self.up_after is None:
            return "The gateway was killed, but its end or its recovery was not seen: please report this."
        return (
            f"The app ran in one process, its MQTT gateway in another. After {SECONDS / 2:g} s the gateway was killed"
            f" with SIGKILL. The app saw it Down after {self.down_after * 1e3:.0f} ms and Up again after"
            f" {self.up_after * 1e3:.0f} ms, with a new process. Its control loop never stopped: {self.loop}."
            f" {self.setpoints} setpoints came through the broker. It all ended with exit code {code}."
        )


async def main() -> int:
    story = Story()
    story.tell(BOLD, f"$ taktora-trio {' '.join(COMMAND[3:])}")
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            nursery.start_soon(kill_the_gateway, story)
            async with trio.open_nursery() as readers:
                assert process.stdout is not None
                assert process.stderr is not None
                readers.start_soon(read_lines, process.stdout, lambda line: story.app_said(entry_of(line)["message"]))
                readers.start_soon(read_lines, process.stderr, lambda line: story.was_logged(entry_of(line)))
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
        nursery.cancel_scope.cancel()
    print(f"\n{story.summary(code)}")
    return code if story.up_after is not None else 1


async def kill_the_gateway(story: Story) -> None:
    await story.up.wait()
    await trio.sleep_until(trio.current_time() + story.began + SECONDS / 2 - time.monotonic())
    story.tell(RED, f"demo: kill -9 {story.gateway} (the gateway)")
    story.killed_at = time.monotonic()
    os.kill(story.gateway, signal.SIGKILL)


def entry_of(line: str) -> dict[str, Any]:
    """Return the entry of the log that a line is. What native code says by itself is no JSON, and is shown as it is."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {"process": "native", "message": line}
    return entry if isinstance(entry, dict) else {"process": "native", "message": line}


async def read_lines(stream: trio.abc.ReceiveStream, line_read: Callable[[str], None]) -> None:
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            line_read(line.decode())


if __name__ == "__main__":
    sys.exit(trio.run(main))
