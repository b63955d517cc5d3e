"""The package as PyPI gets it: built, checked, and installed in an environment where nothing else is. `make package`.

Its size and how long its import takes are printed: they are no assertions, as they depend on the machine.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import taktora_trio
from benchmarks.install import Environment
from tests.command import ROOT

pytestmark = [pytest.mark.package, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def dist() -> Path:
    """What `make package` has built of this version: a source distribution, and a wheel that was made from it."""
    folder = ROOT / "dist"
    assert list(folder.glob(f"*-{taktora_trio.__version__}.tar.gz")), "run `make package`"
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    [wheel] = dist.glob(f"*-{taktora_trio.__version__}-*.whl")
    return wheel


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("empty"))
    environment.install(str(wheel))
    return environment


def ran(environment: Environment, *arguments: str, cwd: Path) -> str:
    command = [str(environment.python.with_name("taktora-trio")), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_wheel_has_types_examples_and_units_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "taktora_trio/py.typed" in names
    shipped = {name for name in names if name.startswith("taktora_trio/scaffold/")}
    for name in ("examples/echo.py", "examples/line_protocol/client.py", "supervisors/systemd/greenhouse.service"):
        assert f"taktora_trio/scaffold/{name}" in shipped
    assert all(name.startswith(("taktora_trio/", "taktora_trio-")) for name in names)
    assert not [name for name in names if "__pycache__" in name]


def test_the_source_distribution_has_what_is_needed_to_test_it(dist: Path) -> None:
    [source] = dist.glob(f"*-{taktora_trio.__version__}.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "Makefile", "LICENSE", "tests/test_package.py", "examples/echo.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "dist/"))]


def test_the_page_on_pypi_has_absolute_links_to_what_there_is(metadata: Message) -> None:
    readme = metadata.get_payload()
    assert isinstance(readme, str)
    readme = re.sub(r"^```.*?^```", "", readme, flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r'\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"', readme)
    targets = [one or other for one, other in links]
    assert len(targets) > 10
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    ours = re.compile(r"https://(?:github|raw\.githubusercontent)\.com/[\w-]+/[\w-]+/(?:blob/)?v[\d.]+\w*/([^#]*)")
    files = [found[1] for target in targets if (found := ours.fullmatch(target.partition("#")[0]))]
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_what_pypi_shows_beside_it(metadata: Message) -> None:
    urls = {entry.partition(", ")[0] for entry in metadata.get_all("Project-URL", ())}
    assert {"Homepage", "Documentation", "Repository", "Issues", "Changelog"} <= urls
    assert "Typing :: Typed" in metadata.get_all("Classifier", ())
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_it_runs_where_nothing_else_is_installed(installed: Environment, tmp_path: Path) -> None:
    assert ran(installed, "--version", cwd=tmp_path).strip() == taktora_trio.__version__
    ran(installed, "examples", "--copy", ".", cwd=tmp_path)
    assert "examples/echo.py" in ran(installed, "examples", cwd=tmp_path)
    ran(installed, "new", "boiler", cwd=tmp_path)
    for mode in ("in-process", "split"):
        for target, folder in (("examples.echo", tmp_path), ("boiler", tmp_path / "boiler")):
            arguments = ("--mode", mode, "--broker", "mqtt://127.0.0.1:1", "--await-broker", "--for", "2")
            log = ran(installed, "run", f"{target}:deployment", *arguments, "--domain", f"wheel-{mode}", cwd=folder)
            assert "Traceback" not in log


def test_what_an_installation_takes(installed: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    packages, megabytes = installed.installed()
    imported = installed.import_of("import taktora_trio")
    declared = installed.import_of("from taktora_trio import Deployment, Inbound, MqttConnector, Outbound")
    assert "taktora-trio" in packages
    with capsys.disabled():
        print(f"\nAn installation: {len(packages)} packages, {megabytes:.1f} MB")  # noqa: T201 - asked for
        print(f"`import taktora_trio`: {imported}\nall that declares an app: {declared}")  # noqa: T201
