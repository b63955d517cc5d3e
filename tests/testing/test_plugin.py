"""The pytest plugin: which shape a test gets, and which clock; what it says of mistakes; what it costs others."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import taktora_trio.testing

pytest_plugins = ["pytester"]

# What `open_app` would open, shown: the shape, and whether time is virtual.
STAND_IN = """
    import contextlib
    import pytest, trio
    import taktora_trio.testing

    @contextlib.asynccontextmanager
    async def show(deployment, *, shape, **more):
        yield f"{shape} {type(trio.lowlevel.current_clock()).__name__}"

    @pytest.fixture(autouse=True, scope="session")
    def stand_in():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(taktora_trio.testing, "open_app", show, raising=False)
            yield
"""
SHOWN = """
    async def test_shown(open_app):
        async with open_app(None) as seen:
            print("SEEN", seen)
"""


@pytest.fixture(autouse=True)
def _conftest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(STAND_IN)


def seen(result: pytest.RunResult) -> list[str]:
    return re.findall(r"SEEN (.*)", result.stdout.str())


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-s", *arguments)


def test_in_memory_a_test_gets_the_virtual_clock_without_naming_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SHOWN)  # and needs no mark, nor trio_mode
    result = run(pytester)
    result.assert_outcomes(passed=1)
    assert seen(result) == ["memory MockClock"]


@pytest.mark.parametrize("mode", ["true", "false"])
def test_the_option_gives_another_shape_and_the_real_clock(pytester: pytest.Pytester, mode: str) -> None:
    pytester.makeini(f"[pytest]\ntrio_mode = {mode}")
    pytester.makepyfile(SHOWN)
    assert seen(run(pytester, "--taktora-shape", "split")) == ["split SystemClock"]


def test_several_shapes_run_each_test_in_each(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SHOWN)
    result = run(pytester, "--taktora-shape=in-process,memory", "-v")
    assert sorted(seen(result)) == ["in-process SystemClock", "memory MockClock"]
    result.stdout.fnmatch_lines_random(["*test_shown?in-process? *", "*test_shown?memory? *"])


def test_a_marked_test_keeps_its_shapes_whatever_the_option_says(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(f"import pytest\npytestmark = pytest.mark.taktora_shape('memory', 'split')\n{SHOWN.strip()}")
    assert sorted(seen(run(pytester, "--taktora-shape", "in-process"))) == ["memory MockClock", "split SystemClock"]


def test_a_shape_may_have_marks_of_its_own(pytester: pytest.Pytester) -> None:
    mark = "pytest.mark.taktora_shape('memory', pytest.param('split', marks=pytest.mark.skip))"
    pytester.makepyfile(f"import pytest\npytestmark = {mark}\n{SHOWN.strip()}")
    run(pytester).assert_outcomes(passed=1, skipped=1)


def test_a_clock_that_a_test_names_is_the_one_it_gets(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import trio
        async def test_shown(open_app, mock_clock):
            assert trio.lowlevel.current_clock() is mock_clock
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_a_runner_that_a_test_names_is_the_one_it_gets(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntrio_mode = true")
    pytester.makepyfile(
        """
        import pytest, trio
        def run(test, **more):
            print("SEEN my own")
            return trio.run(test, **more)
        @pytest.mark.trio(run=run)
        async def test_shown(open_app):
            pass
        """
    )
    assert seen(run(pytester)) == ["my own"]


def test_each_example_of_hypothesis_gets_a_clock_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest, trio
        from hypothesis import given, settings, strategies
        clocks = []
        @pytest.fixture
        async def other():
            return 7

        @pytest.mark.parametrize("doubled", [False, True])
        @settings(max_examples=3, database=None)
        @given(strategies.integers())
        @pytest.mark.taktora_shape("memory", "split")
        async def test_shown(open_app, doubled, taktora_shape, number):
            await trio.sleep(1000 if taktora_shape == "memory" else 0)
            clock = trio.lowlevel.current_clock()
            assert all(clock is not one for one in clocks)
            async with open_app(None) as seen:
                print("SEEN", seen)
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=4)
    assert set(seen(result)) == {"memory MockClock", "split SystemClock"}


def test_a_test_without_an_app_is_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntrio_mode = true")
    pytester.makepyfile(
        """
        import trio
        async def test_shown():
            print("SEEN", type(trio.lowlevel.current_clock()).__name__)
        """
    )
    assert seen(run(pytester, "--taktora-shape", "memory,split")) == ["SystemClock"]


@pytest.mark.parametrize(
    ("given", "said"), [("spilt", "'spilt'; is 'split' meant? Use"), ("", "''; use"), ("memory,x", "'x'; use")]
)
def test_an_unknown_shape_is_one_line(pytester: pytest.Pytester, given: str, said: str) -> None:
    pytester.makepyfile(SHOWN)
    result = run(pytester, "--taktora-shape", given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [
        f"ERROR: --taktora-shape: there is no shape {said} one of memory, in-process, split"
    ]


@pytest.mark.parametrize("arguments", ["'in_process'", "", "None"])
def test_an_unknown_shape_in_a_mark_names_the_test(pytester: pytest.Pytester, arguments: str) -> None:
    pytester.makepyfile(f"import pytest\npytestmark = pytest.mark.taktora_shape({arguments})\n{SHOWN.strip()}")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*::test_shown: @pytest.mark.taktora_shape: there is no shape *"])


def test_without_pytest_trio_the_extra_is_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SHOWN)
    result = run(pytester, "-p", "no:trio")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: open_app needs pytest-trio: pip install 'taktora-trio?testing?'"])


def test_it_works_under_xdist(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SHOWN.replace('print("SEEN", seen)', 'assert seen == "split SystemClock"'))
    run(pytester, "-n", "1", "--taktora-shape", "split").assert_outcomes(passed=1)


def test_its_entry_point_is_installed() -> None:
    [entry] = entry_points(group="pytest11", name="taktora_trio")
    assert entry.value == "taktora_trio.testing.plugin"
    assert taktora_trio.testing


def test_a_run_without_an_app_imports_next_to_nothing_for_it() -> None:
    shown = "import pytest, sys; before = set(sys.modules); import taktora_trio.testing.plugin; "
    shown += "print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.split() if not name.startswith("taktora_trio")] == []
    assert len(done.stdout.split()) <= 5


def test_a_failure_is_shown_at_its_line_and_in_no_group(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        from hypothesis import given, strategies
        async def test_plain(open_app):
            async with open_app(None):
                celsius = 21
                try:
                    raise KeyError("before")
                except KeyError as exc:
                    raise ValueError("mine") from exc
        @given(celsius=strategies.just(21))
        async def test_generated(open_app, celsius):
            async with open_app(None):
                assert celsius == 3
    """)
    result = run(pytester, "--taktora-shape", "memory,split")
    result.assert_outcomes(failed=4)
    assert "ExceptionGroup" not in result.stdout.str()
    result.stdout.fnmatch_lines_random(
        [
            "> * raise ValueError(?mine?) from exc",
            "E * KeyError: 'before'",
            "> * assert celsius == 3",
            "E * assert 21 == 3",
            "E *celsius=21,",  # what hypothesis has noted
        ]
    )


def test_a_test_of_pytest_asyncio_is_told_so(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers = asyncio")
    pytester.makepyfile(f"import pytest\npytestmark = pytest.mark.asyncio\n{SHOWN.strip()}")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *::test_shown: a test of open_app runs on trio*set asyncio_mode = strict"])
