"""Documents on disk: written whole or not at all, and read by somebody who may be given any file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

import msgspec

from taktora_trio.errors import ConfigError, missing_extra
from taktora_trio.escaping import escaped

__all__ = ["Format", "encoded", "format_of", "read_document", "write_whole"]

Format: TypeAlias = Literal["yaml", "json"]
_LARGEST = 2**25  # bytes: far more than anybody describes
_LONGEST = 400  # characters of a path or of what a parser says


def format_of(path: Path | None) -> Format:
    """Return the format of a file by its name."""
    return "json" if path is not None and path.suffix.lower() == ".json" else "yaml"


def encoded(document: object, form: Format) -> bytes:
    """Return the text of a document. Raises `ConfigError` where the library for it is missing."""
    if form == "json":
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    yaml = _yaml("taktora-trio asyncapi --format yaml")
    dumper: Any = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda self, data: True})
    dumper.add_representer(str, _represent_text)
    text: str = yaml.dump(document, Dumper=dumper, allow_unicode=True, sort_keys=False, width=100)
    return text.encode()


def _represent_text(dumper: Any, text: str) -> Any:
    """Have a text of several lines written as it looks."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, so that at each moment it is what it was or all that is new. Raises `ConfigError`."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device, or a folder, which is refused
            path.write_bytes(content)
            return
        path = path.resolve()  # what a link leads to is replaced, not the link
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), path.stat().st_mode if path.exists() else 0o666 & ~_umask())
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except RuntimeError as exc:  # of `resolve`
        raise ConfigError(f"can't write {_shown(path)}: its links lead in a circle") from exc
    except OSError as exc:
        raise ConfigError(f"can't write {_shown(path)}: {exc.strerror}") from exc


def read_document(path: Path) -> dict[str, Any]:
    """Return an AsyncAPI 3 document. Raises `ConfigError`, in one line, for a file that is none."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as exc:
        raise ConfigError(f"can't read {_shown(path)}: {exc.strerror}") from exc
    if len(content) > _LARGEST:
        raise ConfigError(f"{_shown(path)} has more than {_LARGEST} bytes: that is no document of channels")
    document = _parsed(path, content)
    version = document.get("asyncapi") if isinstance(document, dict) else None
    if not isinstance(document, dict) or version is None:
        raise ConfigError(f"{_shown(path)} is no AsyncAPI document: it does not say `asyncapi: 3.0.0`")
    if not isinstance(version, str) or not version.startswith("3."):
        raise ConfigError(
            f"{_shown(path)} is of AsyncAPI {escaped(str(version), 40)}, and no 3: convert it, or write one anew"
        )
    return document


def _parsed(path: Path, content: bytes) -> Any:
    try:
        if format_of(path) == "json":
            return msgspec.json.decode(content)
        yaml = _yaml(f"reading {_shown(path)}")
        try:
            return yaml.load(content, Loader=yaml.SafeLoader)
        except yaml.YAMLError as exc:
            mark = getattr(exc, "problem_mark", None)
            where = f" in line {mark.line + 1}" if mark is not None else ""
            said = getattr(exc, "problem", None) or getattr(exc, "reason", None) or type(exc).__name__
            raise ConfigError(f"{_shown(path)} is no YAML: {escaped(str(said), _LONGEST)}{where}") from exc
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        kind = format_of(path).upper()
        raise ConfigError(f"{_shown(path)} is no {kind}: {escaped(str(exc), _LONGEST)}") from exc


def _yaml(user: str) -> ModuleType:
    try:
        import yaml
    except ImportError as exc:
        raise missing_extra(user, "pyyaml", "asyncapi") from exc
    return yaml


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _shown(path: Path) -> str:
    return escaped(str(path), _LONGEST)
