"""Modules that are put off: who has asked for them, and what everybody else gets."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from taktora_trio import digest
from taktora_trio.lean import Later, missing, putting_off


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
from taktora_trio.lean import Later
import trio
import msgspec
left_out = {"ssl", "_hashlib", "hmac", "idna", "ipaddress", "ctypes.util", "typing_extensions"}
left_out |= {"attr.validators", "trio._dtls", "trio_util._periodic", "async_generator"}
if sys.version_info < (3, 13):
    left_out.add("ast")
print(sorted(left_out & set(sys.modules)), [name for name, module in sys.modules.items() if isinstance(module, Later)])
import ctypes.util, ssl
print(trio._ssl._stdlib_ssl.SSLContext is ssl.SSLContext, callable(ctypes.util.find_library))
print(trio._socket.encode_hostname("b\\u00fccher.example").decode())
print(trio._core._thread_cache.set_os_thread_name is not None)
import iceoryx2
of_iceoryx2 = iceoryx2.publish_subscribe_extensions.flatbuffers
print("flatbuffers" in sys.modules, vars(of_iceoryx2).get("Builder"))
import flatbuffers
print(of_iceoryx2.Builder is flatbuffers.Builder)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == ["[] []", "True True", "xn--bcher-kva.example", "True", "False None", "True"]


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
        "class JSONDecoder(object): class JSONEncoder(object):",
    ]


@pytest.mark.parametrize("data", [b"", b"a name", bytes(range(256)) * 3])
def test_digests_are_those_of_hashlib(data: bytes) -> None:
    assert digest.sha256(data).hexdigest() == hashlib.sha256(data).hexdigest()
    assert digest.blake2b(data, digest_size=16).digest() == hashlib.blake2b(data, digest_size=16).digest()
