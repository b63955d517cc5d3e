"""`taktora-trio examples`: the example apps, runner scripts and unit files, also where only a wheel was installed."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.this_process.outcome import show, show_document
from taktora_trio.scaffold.folders import fill, given_folder, in_shell

__all__ = ["shipped_folders", "show_examples"]

_FOLDERS = ("examples", "supervisors")
_SUFFIXES = (".py", ".toml", ".service", ".yaml", ".json")


def show_examples(
    name: Annotated[str | None, Parameter(help="Print this one; by default all are listed.")] = None,
    /,
    *,
    copy: Annotated[
        str | None,
        Parameter(help="Write all into this folder, as examples/ and supervisors/; none may be there."),
    ] = None,
) -> int:
    """Show examples, or copy them. Raises `ConfigError` if there is none of that name, or it can't be written."""
    if copy is not None:
        if name is not None:
            raise ConfigError("--copy copies all of them: give either a name or --copy")
        _copy(given_folder(copy, "--copy"))
        return 0
    files = dict(_files())
    if name is not None:
        show_document(files[_find(name, files)].read_bytes())
    else:
        listed = [(path, file) for path, file in files.items() if not _inside(file)]
        width = max(len(path) for path, _ in listed)
        show("\n".join(f"{path:<{width}}  {_purpose(file)}" for path, file in listed))
    return 0


def shipped_folders() -> Mapping[str, Path]:
    """Return where `examples` and `supervisors` are, by name: in the package of a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    return {
        folder: package / folder if (package / folder).is_dir() else package.parents[1] / folder for folder in _FOLDERS
    }


def _files() -> Iterator[tuple[str, Path]]:
    for name, folder in shipped_folders().items():
        for file in sorted(folder.rglob("*")):
            if (file.suffix in _SUFFIXES or file.name == "Containerfile") and "__pycache__" not in file.parts:
                yield f"{name}/{file.relative_to(folder)}", file


def _inside(file: Path) -> bool:
    """Return whether it is a part of an example that is a folder, whose `__init__` is the one to begin with."""
    return (file.name == "__init__.py") == (file.parent.name in _FOLDERS) and file.with_name("__init__.py").exists()


def _find(name: str, files: Mapping[str, Path]) -> str:
    """Return the path that is meant. An example that is a folder is called as the folder is."""
    fitting = [path for path in files if name in _names(path)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigError(f"several are called '{escaped(name)}': {', '.join(fitting)}")
    names = {short: path for path in files for short in _names(path)}
    close = get_close_matches(name, names, n=1)
    perhaps = f"did you mean {names[close[0]]}?" if close else "`taktora-trio examples` lists them"
    raise ConfigError(f"there is no example '{escaped(name)}': {perhaps}")


def _names(path: str) -> tuple[str, ...]:
    file = Path(path)
    if file.name == "__init__.py":
        return (path, str(file.parent), file.parent.name)
    return (path, file.name, file.stem)


def _purpose(file: Path) -> str:
    """Return the first line that says what the file is for: of a docstring, a unit's description, or a comment."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    if file.suffix == ".json":
        return str(json.loads(text).get("description", ""))
    found = re.search(r"^Description=(.+)", text, re.MULTILINE) or re.search(r"^# (.+)", text, re.MULTILINE)
    return found[1] if found else ""


def _copy(to: Path) -> None:
    folders = shipped_folders()
    shown = in_shell(to)

    def make(folder: Path) -> None:
        for name, shipped in folders.items():
            shutil.copytree(shipped, folder / name, ignore=shutil.ignore_patterns("__pycache__"))

    try:
        for name in folders:
            if (to / name).exists() or (to / name).is_symlink():
                raise ConfigError(
                    f"{in_shell(to / name)} is there already: nothing was written; give --copy a folder without it"
                )
        fill(to, make)
    except shutil.Error as exc:  # of several files; the first is as good as all
        raise ConfigError(f"can't copy the examples to {shown}: {_reason(exc.args[0][0][2])}") from exc
    except OSError as exc:
        raise ConfigError(f"can't copy the examples to {shown}: {exc.strerror}") from exc
    show(f"Copied to {shown}: each file says at its top how it is run, from that folder:")
    show(f"cd {shown} && taktora-trio run examples.echo:deployment --mode split --broker embedded --for 10")


def _reason(text: str) -> str:
    """Return why a file could not be copied, without the names of both, as `shutil` puts it."""
    found = re.match(r"\[Errno \d+\] ([^:]+): ", text)
    return escaped(found[1] if found else text)
