"""Imports the deployment that an operator has named, as MODULE:DEPLOYMENT, and an app that is given by name."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import cast

from taktora_trio.errors import ConfigError, summary
from taktora_trio.escaping import escaped
from taktora_trio.runners.deployment import App, Deployment

__all__ = ["hiding_python", "load_app", "load_deployment", "load_settings_class"]


def load_deployment(target: str) -> Deployment:
    """Import `module:attribute`, as seen from the present folder, and return the deployment.

    Raises `ConfigError`, in one line, if there is none, and for whatever the import raises, except for
    `KeyboardInterrupt` and `MemoryError`, which are nobody's input.
    """
    module, name, attribute, folder, found = _load(target)
    if isinstance(found, Deployment):
        return found
    with _told_in_one_line(name, folder):
        names = [name for name, value in vars(module).items() if isinstance(value, Deployment)]
    there = f"it has {', '.join(names)}" if names else "it has none"
    what = "no" if found is None else f"a {type(found).__name__}, not a"
    which = "" if names else f"; that module is {_file(module)}"
    raise ConfigError(
        f"module {name!r} has {what} Deployment named {attribute!r} ({there}){which}{_hidden_by(module, name, folder)}"
    )


def load_app(deployment: Deployment) -> App:
    """Return the app of a deployment, which is imported where it is given by name.

    Call it in the process that runs the app. Raises `ConfigError`, in one line, where there is none.
    """
    app = deployment.app
    if app is None:
        raise ConfigError(
            f"deployment {deployment.name!r} has no app to run: give it one, or use open_deployment() and be the app"
        )
    if not isinstance(app, str):
        return app
    try:
        module, name, attribute, folder, found = _load(app)
    except ConfigError as exc:
        raise ConfigError(f"the app of deployment {deployment.name!r}: {exc}") from exc
    if callable(found):
        return cast(App, found)
    what = "no function" if found is None else f"a {type(found).__name__}, and no function,"
    raise ConfigError(
        f"the app of deployment {deployment.name!r}: module {name!r} has {what} named {attribute!r};"
        f" that module is {_file(module)}{_hidden_by(module, name, folder)}"
    )


def load_settings_class(deployment: Deployment) -> type:
    """Return the class of the app's settings, which is imported where it is given by name. Raises `ConfigError`."""
    settings = deployment.settings
    if not isinstance(settings, str):
        assert settings is not None
        return settings
    try:
        module, name, attribute, folder, found = _load(settings)
    except ConfigError as exc:
        raise ConfigError(f"the settings of deployment {deployment.name!r}: {exc}") from exc
    if isinstance(found, type):
        return found
    what = "no class" if found is None else f"a {type(found).__name__}, and no class,"
    raise ConfigError(
        f"the settings of deployment {deployment.name!r}: module {name!r} has {what} named {attribute!r};"
        f" that module is {_file(module)}{_hidden_by(module, name, folder)}"
    )


def hiding_python(folder: str | None = None) -> dict[str, Path]:
    """Return the modules in a folder (the present one) that have the name of one of Python's own, by that name.

    Such a file is found instead of Python's own by whoever imports that later, or is not found itself.
    """
    folder = _present_folder() if folder is None else folder
    try:
        there = sorted(os.listdir(folder)) if folder is not None else []
    except OSError:
        return {}
    paths = {Path(entry).stem: Path(folder or "", entry) for entry in there}
    return {
        name: path
        for name, path in paths.items()
        if name in sys.stdlib_module_names and (path.suffix == ".py" or Path(path, "__init__.py").exists())
    }


def _load(target: str) -> tuple[ModuleType, str, str, str | None, object]:
    """Import the module of `module:attribute`; return it, both names, the present folder, and what the name stands for.

    What it has no attribute for is `None`. Raises `ConfigError`.
    """
    name, attribute = _parse(target)
    folder = _present_folder()
    if folder is not None and sys.path[:1] not in ([folder], [""]):
        sys.path.insert(0, folder)  # first of all, for a package may bring a module of the same name
    with _told_in_one_line(name, folder):
        module = importlib.import_module(name)
        return module, name, attribute, folder, getattr(module, attribute, None)


def _parse(target: str) -> tuple[str, str]:
    module, colon, attribute = target.rpartition(":") if ":" in target else (target, "", "")
    shown = escaped(target)
    if "/" in module or module.endswith(".py"):
        path = Path(module.removesuffix(".py"))
        try:
            inside = path.absolute().relative_to(Path.cwd()).parts
        except (ValueError, OSError):
            raise ConfigError(
                f"'{shown}' is a file, where a MODULE is wanted: go to its folder, and"
                f" write {escaped(path.name)}:{escaped(attribute) or 'deployment'}"
            ) from None
        raise ConfigError(
            f"'{shown}' is a file, where a MODULE is wanted:"
            f" write {escaped('.'.join(inside))}:{escaped(attribute) or 'deployment'}"
        )
    if not colon or not attribute or not all(module.split(".")):
        raise ConfigError(f"'{shown}' is no MODULE:DEPLOYMENT: write for example examples.echo:deployment")
    return module, attribute


def _present_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - as it stands in sys.path
    except OSError:  # it was removed
        return None


@contextmanager
def _told_in_one_line(name: str, folder: str | None) -> Iterator[None]:
    """Turn whatever an import raises into a `ConfigError` of one line, which says what to do."""
    shown = escaped(name)
    try:
        yield
    except (KeyboardInterrupt, MemoryError):
        raise
    except ConfigError as exc:
        raise ConfigError(f"module '{shown}': {exc}") from exc
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            here = "here, for the present folder was removed," if folder is None else f"here ({folder})"
            raise ConfigError(f"there is no module '{shown}' {here} or installed: check MODULE") from exc
        needed = escaped(str(exc.name or exc))
        raise ConfigError(f"module '{shown}' needs '{needed}', which is not installed") from exc
    except SystemExit as exc:
        raise ConfigError(
            f"module '{shown}' ends the program when it is imported (SystemExit: {escaped(str(exc.code))},"
            f' {_place(exc)}): put what it is to do when it is run below `if __name__ == "__main__":`'
        ) from exc
    except BaseException as exc:
        raise ConfigError(
            f"module '{shown}' can't be imported: {escaped(summary(exc), 400)} ({_place(exc)});"
            f" to see the whole traceback: python -c 'import {shown}'{_hiding(folder)}"
        ) from exc


def _place(exc: BaseException) -> str:
    """Return the file and line where it was raised."""
    if isinstance(exc, SyntaxError) and exc.filename:
        return f"{escaped(exc.filename)}:{exc.lineno}"
    frames = traceback.extract_tb(exc.__traceback__)
    return f"{escaped(frames[-1].filename)}:{frames[-1].lineno}"


def _file(module: ModuleType) -> str:
    return escaped(getattr(module, "__file__", None) or "built into Python")


def _hidden_by(module: ModuleType, name: str, folder: str | None) -> str:
    """Return a remark if another module of that name was found than the one in this folder."""
    meant = Path(folder or "", *name.split("."))
    for path in (meant.with_name(f"{meant.name}.py"), meant / "__init__.py"):
        if folder is not None and path.exists() and _file(module) != escaped(str(path)):
            return f"; rename {escaped(str(path))}, for that one has its name"
    return ""


def _hiding(folder: str | None) -> str:
    """Return a remark about modules in that folder which may be in the way."""
    paths = ", ".join(escaped(str(path)) for path in hiding_python(folder).values())
    return f"; rename {paths}, named as Python's own" if paths else ""
