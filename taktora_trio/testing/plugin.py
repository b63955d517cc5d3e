"""The pytest plugin: the fixture `open_app`, the option `--taktora-shape` and the marker `taktora_shape`.

pytest loads it by its entry point, in each run of an environment that has the package: so it imports nothing until a
test asks for an app. In memory a test gets trio's virtual clock without naming it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from taktora_trio.testing import OpenApp, Shape

SHAPES = ("memory", "in-process", "split")
_OPTION, _MARKER, _FIXTURE = "--taktora-shape", "taktora_shape", "taktora_shape"
_CLOCK = "_taktora_clock"
_EXAMPLES = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("taktora-trio", "apps of taktora-trio").addoption(
        _OPTION,
        metavar="SHAPE",
        default=SHAPES[0],
        help="The shape that `open_app` runs an app in: memory (the default), in-process, or split; several with commas"
        " between them run each test in each. A test that is marked with taktora_shape keeps its own.",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "taktora_shape(shape, ...): run the app of `open_app` in this shape, or in each of these, whatever"
        f" {_OPTION} says: memory, in-process, split",
    )
    _check(_chosen(config), _OPTION)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test in each of its shapes, where it has several or says which."""
    if _FIXTURE not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker(_MARKER)
    shapes = _chosen(metafunc.config) if marker is None else marker.args
    if marker is not None:
        _check(shapes, f"{metafunc.definition.nodeid}: @pytest.mark.{_MARKER}")
    if marker is not None or len(shapes) > 1:
        metafunc.parametrize(_FIXTURE, shapes, indirect=True, ids=str)


@pytest.hookimpl(tryfirst=True)  # before pytest-trio marks all async tests: a marker that is there now is the user's
def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    for item in items:
        if _FIXTURE not in getattr(item, "fixturenames", ()) or not _is_async(item):
            continue
        if not config.pluginmanager.hasplugin("trio"):
            raise pytest.UsageError("open_app needs pytest-trio: pip install 'taktora-trio[testing]'")
        if item.get_closest_marker("asyncio") is not None:  # pytest-asyncio's auto mode marks them, too
            raise pytest.UsageError(
                f"{item.nodeid}: a test of open_app runs on trio, and this one is pytest-asyncio's: leave its mark out,"
                " or set asyncio_mode = strict"
            )
        if not any("run" in marker.kwargs for marker in item.iter_markers("trio")):
            more = {"run": _run_by_virtual_clock} if _is_virtual(item) else {}
            item.add_marker(pytest.mark.trio(**more), append=False)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Give each example of a hypothesis test a virtual clock, too: there pytest-trio takes no runner of ours.

    It takes a clock that is among the arguments of the test, which it wraps. So the test gets one, and does not see it.
    """
    handle = getattr(getattr(item, "obj", None), "hypothesis", None)
    if handle is None or not _is_virtual(item) or not _is_async(item):
        yield
        return
    test = handle.inner_test
    handle.inner_test = _without_clock(test)
    item.stash[_EXAMPLES] = handle
    yield
    handle.inner_test = test


@pytest.hookimpl(wrapper=True, tryfirst=True)  # pytest-trio has wrapped it by now
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Run the test, and raise what it raised: pytest-trio has that in a group, where pytest shows no source."""
    handle = pyfuncitem.stash.get(_EXAMPLES, None)
    if handle is not None:
        handle.inner_test = _with_clock(handle.inner_test)
    failure: BaseException
    try:
        return (yield)
    except BaseExceptionGroup as group:
        failure = group
        if _FIXTURE in pyfuncitem.fixturenames and len(group.exceptions) == 1:
            failure = group.exceptions[0]
            for note in getattr(group, "__notes__", ()):  # such as hypothesis' example
                failure.add_note(note)
    raise failure  # out here, where it keeps its context


@pytest.fixture(scope="session")  # else hypothesis would warn of it: but it has nothing to be made anew
def taktora_shape(request: pytest.FixtureRequest) -> Shape:
    """The shape that the test runs in: "memory", "in-process" or "split"."""
    shape: Any = getattr(request, "param", None) or _chosen(request.config)[0]
    return shape  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def open_app(taktora_shape: Shape) -> OpenApp:
    """`taktora_trio.testing.open_app`, in the shape that the test runs in."""
    from taktora_trio.testing import open_app

    return partial(open_app, shape=taktora_shape)


def _chosen(config: pytest.Config) -> tuple[str, ...]:
    return tuple(config.getoption(_OPTION).split(","))


def _check(shapes: Sequence[object], where: str) -> None:
    for shape in [getattr(one, "values", (one,))[0] for one in shapes] or [""]:  # it may be a pytest.param
        if shape not in SHAPES:
            from difflib import get_close_matches

            close = get_close_matches(str(shape), SHAPES, 1)
            use = f"is {close[0]!r} meant? Use" if close else "use"
            raise pytest.UsageError(f"{where}: there is no shape {shape!r}; {use} one of {', '.join(SHAPES)}")


def _shape_of(item: pytest.Item) -> str:
    params: Mapping[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    shape: str = params.get(_FIXTURE) or _chosen(item.config)[0]
    return shape


def _is_virtual(item: pytest.Item) -> bool:
    return _FIXTURE in getattr(item, "fixturenames", ()) and _shape_of(item) == "memory"


def _is_async(item: pytest.Item) -> bool:
    from inspect import iscoroutinefunction

    test = getattr(item, "obj", None)
    return iscoroutinefunction(getattr(getattr(test, "hypothesis", None), "inner_test", test))


def _run_by_virtual_clock(test: Callable[[], Awaitable[Any]], clock: Any = None, **more: Any) -> Any:
    import trio

    return trio.run(test, clock=_virtual_clock() if clock is None else clock, **more)


def _virtual_clock() -> Any:
    import trio.testing

    return trio.testing.MockClock(autojump_threshold=0)


def _without_clock(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def run(*arguments: Any, **named: Any) -> None:
        del named[_CLOCK]
        await test(*arguments, **named)

    return run


def _with_clock(test: Callable[..., None]) -> Callable[..., None]:
    def run(*arguments: Any, **named: Any) -> None:
        test(*arguments, **named, **{_CLOCK: _virtual_clock()})

    return run
