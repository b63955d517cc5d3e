from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import subprocess
import sys

import msgspec
import pytest

import taktora_trio

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(taktora_trio.__path__, "taktora_trio.")
    if not module.name.endswith("__main__")
)
PROTOCOL_STACK = {"aiomqtt", "paho", "trio_asyncio", "amqtt", "asyncio"}


@pytest.mark.parametrize("name", taktora_trio.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(taktora_trio, name)
    if inspect.isclass(value):
        assert (vars(value).get("__doc__") or "").strip(), f"{name} has no docstring of its own"
        assert name in importlib.import_module(value.__module__).__all__


def test_public_names_are_sorted_and_exported_once() -> None:
    assert taktora_trio.__all__ == sorted(set(taktora_trio.__all__))
    tree = ast.parse(inspect.getsource(taktora_trio))
    for_checkers = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.asname: node.module
        for node in for_checkers.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == taktora_trio._MODULES
    listed = [name for names in taktora_trio._PUBLIC.values() for name in names]
    assert sorted(listed) == taktora_trio.__all__  # none by two modules


@pytest.mark.parametrize("name", taktora_trio.__all__)
def test_a_public_name_is_exported_by_its_own_module_too(name: str) -> None:
    module = importlib.import_module(taktora_trio._MODULES[name])
    assert name in module.__all__
    assert getattr(taktora_trio, name) is getattr(module, name)


def test_a_name_that_is_not_public() -> None:
    with pytest.raises(AttributeError, match="module 'taktora_trio' has no attribute 'Nothing'"):
        _ = taktora_trio.Nothing
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec("from taktora_trio import Nothing")
    assert set(taktora_trio.__all__) <= set(dir(taktora_trio))


def test_public_methods_of_public_classes_are_typed() -> None:
    untyped = [
        f"{name}.{attribute}"
        for name in taktora_trio.__all__
        if inspect.isclass(cls := getattr(taktora_trio, name))
        for attribute, value in vars(cls).items()
        if not attribute.startswith("_") and inspect.isfunction(value) and "return" not in value.__annotations__
    ]
    assert untyped == []


def test_public_data_classes_are_attrs_classes_but_for_those_that_each_message_makes() -> None:
    public = {name: value for name in taktora_trio.__all__ if inspect.isclass(value := getattr(taktora_trio, name))}
    structs = {name for name, value in public.items() if issubclass(value, msgspec.Struct)}
    assert structs == {"Envelope", "Header", "Incoming", "Metadata", "Received"}
    assert [name for name, value in public.items() if dataclasses.is_dataclass(value)] == []


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_and_exports_only_what_it_has(name: str) -> None:
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip()
    exported = getattr(module, "__all__", [])
    assert len(exported) == len(set(exported))
    assert [entry for entry in exported if not hasattr(module, entry)] == []


def test_to_declare_an_app_imports_no_shared_memory_and_changes_nothing_for_the_program_that_does() -> None:
    code = """
import logging, os, signal, sys, threading, warnings

def present():
    return (
        sys.path[:], dict(os.environ), os.getcwd(), sys.excepthook, threading.active_count(), warnings.filters[:],
        logging.root.handlers[:], logging.root.level, [signal.getsignal(each) for each in signal.valid_signals()],
        len(os.listdir("/proc/self/fd")),
    )

before = present()
import taktora_trio
print(*(name for name in sys.modules if name.startswith("taktora_trio")))
from taktora_trio import Outbound
print(*sys.modules)
from taktora_trio import ConfigError, Inbound, JsonCodec, MqttConnector, MqttRouting
MqttConnector([Outbound("out", int, MqttRouting("t")), Inbound("in", int, MqttRouting("t"))])
print(*sys.modules)
import taktora_trio.host.host
now = present()
print([(one, other) for one, other in zip(before, now) if one != other])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    package, outbound, declared, changed = done.stdout.splitlines()
    assert set(package.split()) == {"taktora_trio", "taktora_trio.startpath"}
    rooms = {name.split(".")[1] for name in outbound.split() if name.startswith("taktora_trio.")}
    assert rooms == {"channels", "checks", "errors", "startpath"}
    assert {name.partition(".")[0] for name in declared.split()} & {"iceoryx2", "rich", *PROTOCOL_STACK} == set()
    assert changed == "[]"


@pytest.mark.parametrize("module", ["taktora_trio", "taktora_trio.cli", "taktora_trio.runners.command.plugin"])
def test_the_plugin_half_imports_no_protocol_stack(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    imported = set(done.stdout.split())
    assert "taktora_trio" in imported
    assert imported & PROTOCOL_STACK == set()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="trio-asyncio can't run with Python 3.14")
def test_the_gateway_half_is_where_the_stack_is_imported() -> None:
    code = "import sys, taktora_trio.connectors.mqtt.sessions.aiomqtt; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert PROTOCOL_STACK - {"amqtt"} <= set(done.stdout.split())  # so those are the names to look for above
