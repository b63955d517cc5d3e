"""Modules that are put off: who has asked for them, and what everybody else gets."""

from __future__ import annotations

import functools
import hashlib
import inspect
import subprocess
import sys
from unittest.mock import AsyncMock, Mock

import pytest

from taktora_trio import digest
from taktora_trio.checks import is_async_function
from taktora_trio.later import Later, missing, putting_off


def test_what_is_put_off_is_imported_at_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with putting_off("colorsys"):
        import colorsys as held
    assert isinstance(held, Later)
    assert "colorsys" not in sys.modules
    assert held.rgb_to_hls(0, 0, 0) == (0.0, 0.0, 0.0)
    import colorsys

    assert not isinstance(colorsys, Later)
    assert held.rgb_to_hls is colorsys.rgb_to_hls
    with pytest.raises(AttributeError, match="no_such_thing"):
        held.no_such_thing  # noqa: B018 - it raises


def test_what_is_used_at_once_is_imported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with putting_off("colorsys"):
        import colorsys
        from colorsys import rgb_to_hls
    assert colorsys.rgb_to_hls is rgb_to_hls
    assert sys.modules["colorsys"].rgb_to_hls is rgb_to_hls


def test_what_is_there_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    import colorsys

    with putting_off("colorsys"), missing("colorsys"):
        assert sys.modules["colorsys"] is colorsys
    monkeypatch.delitem(sys.modules, "colorsys")
    with missing("colorsys"), pytest.raises(ImportError):
        import colorsys
    assert "colorsys" not in sys.modules


def test_a_program_of_ours_has_the_libraries_whole() -> None:
    """Nothing stands for anything once they are imported; what trio put off is there when it is asked for."""
    code = """
import sys
from taktora_trio import lean
from taktora_trio.later import Later
import trio
import msgspec
left_out = {"ssl", "_hashlib", "hmac", "idna", "ipaddress", "ctypes.util", "typing_extensions"}
left_out |= {"attr.validators", "trio._dtls", "trio._ssl", "trio_util._periodic", "async_generator"}
left_out |= {"inspect", "ast", "dis", "unicodedata", "platform", "msgspec.inspect", "msgspec._json_schema"}
print(sorted(left_out & set(sys.modules)), [name for name, module in sys.modules.items() if isinstance(module, Later)])
import ctypes.util, ssl
print(trio.SSLStream.__module__, trio._ssl._stdlib_ssl.SSLContext is ssl.SSLContext, callable(ctypes.util.find_library))
print(trio.sleep.__doc__, trio.Nursery.start.__doc__)
print(trio._socket.encode_hostname("b\\u00fccher.example").decode())
print(trio._core._thread_cache.set_os_thread_name is not None)
import iceoryx2
of_iceoryx2 = iceoryx2.publish_subscribe_extensions.flatbuffers
print("flatbuffers" in sys.modules, vars(of_iceoryx2).get("Builder"))
import flatbuffers
print(of_iceoryx2.Builder is flatbuffers.Builder)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == [
        "[] []",
        "trio True True",
        "None None",
        "xn--bcher-kva.example",
        "True",
        "False None",
        "True",
    ]


def test_what_the_libraries_export_and_derive_is_whole_when_it_is_used() -> None:
    code = """
from taktora_trio import lean
import inspect, json, pickle, sys
import attr, attrs, outcome, trio, trio_util
print(attrs.validators.instance_of is attr.validators.instance_of, attrs.validators.min_len(3))
try:
    outcome.Error("no exception")
except TypeError as exc:
    print(exc)
print(trio.DTLSEndpoint is sys.modules["trio._dtls"].DTLSEndpoint, pickle.loads(pickle.dumps(trio.DTLSChannel)))
from trio_util import periodic
print(periodic is sys.modules["trio_util._periodic"].periodic, periodic.__module__)
for module in (trio, trio_util):
    try:
        module.no_such_thing
    except AttributeError as exc:
        print(exc)
import msgspec, msgspec._json_schema
print(msgspec.json.schema is msgspec._json_schema.schema, msgspec.json.schema.__module__)
print(msgspec.inspect.type_info(int), msgspec.inspect is sys.modules["msgspec.inspect"])
print(attrs.make_class("\u212a", [])().__class__.__name__)  # the Kelvin sign, which the compiler takes as a K
print(inspect.getsource(json.JSONDecoder).splitlines()[0], inspect.getsource(json.JSONEncoder).splitlines()[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == [
        "True <min_len validator for 3>",
        "'error' must be <class 'BaseException'> (got 'no exception' that is a <class 'str'>)",
        "True <class 'trio.DTLSChannel'>",
        "True trio_util",
        "module 'trio' has no attribute 'no_such_thing'",
        "module 'trio_util' has no attribute 'no_such_thing'",
        "True msgspec._json_schema",
        "IntType(gt=None, ge=None, lt=None, le=None, multiple_of=None) True",
        "K",
        "class JSONDecoder(object): class JSONEncoder(object):",
    ]


def test_what_is_asked_of_inspect_is_answered_as_inspect_does() -> None:
    """What attrs and trio ask of it, of which they have copies; what `inspect` itself says stands beside each."""
    code = """
from taktora_trio import lean
import attr._make, trio._core._parking_lot, trio._util, linecache, sys
ours = trio._core._parking_lot.inspect
assert ours is trio._util.inspect is attr._make.inspect
async def at_work():
    states.append(ours.getcoroutinestate(running))
    await trio.lowlevel.checkpoint()
async def some():
    yield
def as_number(text: "str | bytes", strict: bool = True) -> "int": ...
class Kept:
    def __init__(self, value: "bytes"): ...
states, running = [], at_work()
states.append(ours.getcoroutinestate(running))
running.send(None)
states.append(ours.getcoroutinestate(running))
running.close()
states.append(ours.getcoroutinestate(running))
print(*states, ours.CORO_CLOSED)
print([(ours.iscoroutine(value), ours.isasyncgen(value)) for value in (running, some(), at_work, None)])
@attr.define
class Declared:
    number: int = attr.field(converter=as_number)
def none() -> int: ...
# From Python 3.13 on, `python -c` has imported linecache before; attrs has the real one then.
kept = sys.version_info < (3, 13) and any("attrs" in name for name in linecache.cache)
print(Declared.__init__.__annotations__, "inspect" in sys.modules, kept)
assert ours.signature(Kept).parameters["value"].annotation == "bytes" and "inspect" in sys.modules
assert ours.signature(none).return_annotation is int and ours.signature(as_number).return_annotation == "int"
import inspect
assert inspect.CORO_CLOSED == ours.CORO_CLOSED and inspect.getcoroutinestate(running) == states[-1]
print(inspect.signature(as_number).parameters["text"].annotation, ours.getsource is inspect.getsource)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "CORO_CREATED CORO_RUNNING CORO_SUSPENDED CORO_CLOSED CORO_CLOSED",
        "[(True, False), (False, True), (False, False), (False, False)]",
        "{'return': None, 'number': 'str | bytes'} False False",
        "str | bytes True",
    ]


async def _async() -> None: ...


def _plain() -> None: ...


class _Callable:
    async def __call__(self) -> None: ...


@functools.wraps(_plain)
async def _wrapping() -> None: ...


@pytest.mark.parametrize(
    "value",
    [
        *(_async, _plain, _wrapping, functools.partial(_async), functools.partial(_plain), _Callable()),
        *(_Callable().__call__, print, int, None, lambda: None),
    ],
    ids=lambda value: type(value).__name__ + getattr(value, "__name__", ""),
)
def test_what_is_async_is_what_inspect_says(value: object) -> None:
    assert is_async_function(value) is inspect.iscoroutinefunction(value)


def test_a_mock_is_async_if_inspect_says_so() -> None:
    assert is_async_function(AsyncMock())
    assert not is_async_function(Mock())


@pytest.mark.parametrize("data", [b"", b"a name", bytes(range(256)) * 3])
def test_digests_are_those_of_hashlib(data: bytes) -> None:
    assert digest.sha256(data).hexdigest() == hashlib.sha256(data).hexdigest()
    assert digest.blake2b(data, digest_size=16).digest() == hashlib.blake2b(data, digest_size=16).digest()
