from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from taktora_trio import ConfigError
from taktora_trio.executor import Context, Executor, chain, every, graph, on_message, only_if


class Plant:
    """Steps that note that they ran; `stop_at` skips the rest of its chain."""

    def __init__(self, stop_at: str = "") -> None:
        self.record: list[str] = []
        self._stop_at = stop_at

    def step(self, name: str) -> Any:
        async def step(ctx: Context) -> None:
            await trio.sleep(0.25)
            self.record.append(f"{name} {trio.current_time():g}")
            if name == self._stop_at:
                ctx.skip_rest()

        step.__name__ = name
        return step


async def run_once(item: Any) -> Executor:
    executor = Executor()
    executor.add(chain(item, stop), every(100), name="item")
    await executor.run()
    return executor


async def stop(ctx: Context) -> None:
    ctx.stop()


async def test_a_chain_runs_in_order(autojump_clock: MockClock) -> None:
    plant = Plant()
    await run_once(chain(*map(plant.step, "abc")))
    assert plant.record == ["a 0.25", "b 0.5", "c 0.75"]


async def test_a_step_may_stop_the_rest_of_its_own_chain(autojump_clock: MockClock) -> None:
    plant = Plant(stop_at="b")
    executor = await run_once(chain(plant.step("a"), chain(*map(plant.step, "bcd")), plant.step("e")))
    assert plant.record == ["a 0.25", "b 0.5", "e 0.75"]
    assert executor.stats()["item"].failures == 0


async def test_a_failing_step_is_named_and_is_the_last(autojump_clock: MockClock) -> None:
    plant = Plant()

    async def fail(ctx: Context) -> None:
        raise OSError("valve")

    with pytest.raises(OSError, match="valve") as caught:
        await run_once(chain(plant.step("a"), fail, plant.step("c")))
    assert "in step fail of item 'item'" in caught.value.__notes__
    assert plant.record == ["a 0.25"]


async def test_only_if(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[int](10)
    executor, record = Executor(), list[int]()

    async def note(ctx: Context[int]) -> None:
        record.append(ctx.message)

    executor.add(only_if(note, lambda ctx: ctx.message % 2 == 0), on_message(receive))
    for number in range(6):
        send.send_nowait(number)
    send.close()
    await executor.run()
    assert record == [0, 2, 4]
    assert executor.stats()["note"].count == 6  # by the name of what it wraps


async def test_a_graph_runs_each_vertex_when_all_before_it_have(autojump_clock: MockClock) -> None:
    plant = Plant()
    slow = chain(plant.step("slow"), plant.step("slower"))
    vertices = {name: plant.step(name) for name in ("fuse", "left", "right", "alone", "act")}
    after = {"fuse": ["left", "right", "slow"], "act": "fuse"}
    await run_once(graph({**vertices, "slow": slow}, after))
    times = {entry.split()[0]: entry.split()[1] for entry in plant.record}
    assert times == {
        "left": "0.25",
        "right": "0.25",
        "alone": "0.25",
        "slow": "0.25",
        "slower": "0.5",
        "fuse": "0.75",
        "act": "1",
    }


async def test_a_vertex_that_fails_ends_the_others(autojump_clock: MockClock) -> None:
    plant = Plant()

    async def fail(ctx: Context) -> None:
        await trio.sleep(0.1)
        raise OSError("valve")

    with pytest.raises(OSError, match="valve"):
        await run_once(graph({"fail": fail, "a": plant.step("a"), "b": plant.step("b")}, {"b": ["fail"]}))
    assert plant.record == []
    assert trio.current_time() == 0.1


async def test_vertices_that_fail_together_are_all_told(autojump_clock: MockClock) -> None:
    async def fail(ctx: Context) -> None:
        raise OSError

    with pytest.raises(ExceptionGroup) as caught:
        await run_once(graph({"a": fail, "b": fail}, {}))
    assert len(caught.value.exceptions) == 2


async def test_a_vertex_does_not_skip_the_rest_of_a_chain_around_the_graph(autojump_clock: MockClock) -> None:
    plant = Plant(stop_at="a")
    await run_once(chain(graph({"a": plant.step("a")}, {}), plant.step("b")))
    assert plant.record == ["a 0.25", "b 0.5"]


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ({"a": ["a"]}, "a -> a"),
        ({"a": ["c"], "b": ["a"], "c": ["b"]}, r"(a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)"),
        ({"a": ["x"]}, "no vertex 'x'; there are a, b, c"),
        ({"x": ["a"]}, "no vertex 'x'"),
    ],
)
def test_what_makes_no_graph(after: dict[str, list[str]], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        graph(dict.fromkeys("abc", stop), after)


def not_async(ctx: Context) -> None:
    pass


@pytest.mark.parametrize(
    "make",
    [
        chain,
        lambda: chain(stop, not_async),  # type: ignore[arg-type]
        lambda: only_if(not_async, bool),  # type: ignore[arg-type]
        lambda: only_if(stop, True),  # type: ignore[arg-type]
        lambda: graph({}, {}),
        lambda: graph({"a": not_async}, {}),  # type: ignore[dict-item]
    ],
)
def test_what_makes_no_item(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()
