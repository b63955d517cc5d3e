"""The two trees, side by side in a temporary folder, so that nothing but their text is different.

Both are copies, this one too: its paths are as long, its bytecode is as new, and it may be edited meanwhile. The other
gets the benchmarks of this tree, for what is measured must be the same; where they don't run with its library, its own
are taken. The environment is this tree's own, unless the other wants other dependencies: then it gets one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import attrs

from benchmarks.children import ROOT, Tree

__all__ = ["Trees", "default_commit", "open_trees"]

_APPS = ("benchmarks.peers.through_gateway", "benchmarks.recovery_app", "benchmarks.gate.holder")


@attrs.frozen
class Trees:
    """This tree, the other, and remarks for people."""

    this: Tree
    other: Tree
    remarks: list[str]


def default_commit() -> str:
    """Return what to compare with if nothing is said: the last release; before there is one, the commit before."""
    tag = _git("describe", "--tags", "--abbrev=0", check=False).strip()
    return tag or "HEAD~1"


@contextlib.contextmanager
def open_trees(commit: str) -> Iterator[Trees]:
    """Yield both, ready to be run. Raises `SystemExit` if there is no such commit, or it can't be run."""
    name = _git("log", "-1", "--format=%h %cs %s", commit, "--", check=False).strip()
    if not name:
        raise SystemExit(f"there is no commit {commit!r} here: give one that `git log` shows (--against)")
    with tempfile.TemporaryDirectory(prefix="bench-check-") as folder:
        this, other = Path(folder, "tree-a"), Path(folder, "tree-b")
        _copy_this(this)
        _extract(commit, other)
        remarks = [f"this tree against {name}"]
        if dirty := _git("status", "--porcelain", "--untracked-files=no").strip():
            remarks.append(f"this tree has changes that are not committed: {len(dirty.splitlines())} files")
        python = sys.executable
        if _dependencies(this) != _dependencies(other):
            remarks.append("the other has other dependencies, so it has an environment of its own")
            python = _environment(other, Path(folder, "venv"))
        theirs = _tree(other, python)
        own = Path(folder, "own")
        shutil.move(other / "benchmarks", own)
        shutil.copytree(this / "benchmarks", other / "benchmarks")
        if why := _why_not(theirs):
            remarks.append(f"the other's own benchmarks are taken, for its library does not run this tree's: {why}")
            shutil.rmtree(other / "benchmarks")
            shutil.move(own, other / "benchmarks")
            shutil.copytree(this / "benchmarks" / "gate", other / "benchmarks" / "gate", dirs_exist_ok=True)
            if why := _why_not(theirs):
                raise SystemExit(f"{name}: neither this tree's benchmarks nor its own run with its library ({why})")
        trees = Trees(_tree(this, sys.executable), theirs, remarks)
        for tree in (trees.this, trees.other):
            _run(tree, "-m", "compileall", "-q", ".")
        yield trees


def _tree(root: Path, python: str) -> Tree:
    return Tree(root, python, {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": ""})


def _copy_this(target: Path) -> None:
    for name in _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _extract(commit: str, target: Path) -> None:
    target.mkdir()
    archive = subprocess.Popen(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", target], stdin=archive.stdout, check=True)
    if archive.wait():
        raise SystemExit(f"git archive {commit} failed")


def _dependencies(root: Path) -> list[str]:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return sorted([project["requires-python"], *project["dependencies"]])


def _environment(root: Path, folder: Path) -> str:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", root], check=True)
    return str(python)


def _why_not(tree: Tree) -> str:
    """Return why the apps can't be imported there, or nothing."""
    program = f"""
import importlib, os, taktora_trio
assert taktora_trio.__file__.startswith({str(tree.root)!r}), taktora_trio.__file__
from benchmarks.peers.control import Setting
os.environ.update(Setting(name="a", port=1, socket="/b").environment(), TAKTORA_BENCHMARK_SOCKET="/b")
for name in {_APPS!r}: importlib.import_module(name)
"""
    done = _run(tree, "-c", program, check=False)
    return (done.stderr.strip().splitlines() or ["it failed"])[-1] if done.returncode else ""


def _run(tree: Tree, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **tree.variables}
    return subprocess.run(
        [tree.python, *arguments], cwd=tree.root, env=environment, check=check, capture_output=True, text=True
    )


def _git(*arguments: str, check: bool = True) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, check=check, capture_output=True, text=True).stdout
