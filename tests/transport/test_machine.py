"""A name that is made of the machine stays, or is known not to."""

from __future__ import annotations

from pathlib import Path

import pytest

from taktora_trio.transport import machine


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of its own below this folder, which is no container and has an id."""
    for variable in ("container", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(machine, "_MACHINE_ID", tmp_path / "machine-id")
    monkeypatch.setattr(machine, "_BOOT_ID", tmp_path / "boot-id")
    monkeypatch.setattr(machine, "_MARKS", (tmp_path / ".dockerenv", tmp_path / ".containerenv"))
    (tmp_path / "machine-id").write_text("ab12\n")
    (tmp_path / "boot-id").write_text("b-1\n")
    return tmp_path


def test_a_machine_with_an_id_stays(here: Path) -> None:
    assert machine.machine_id() == "ab12"
    assert machine.temporary_origin() is None


@pytest.mark.parametrize("content", ["", None])
def test_without_an_id_it_is_known_by_its_boot(here: Path, content: str | None) -> None:
    (here / "machine-id").unlink()
    if content is not None:
        (here / "machine-id").write_text(content)
    assert machine.machine_id() == "b-1"
    assert "no /etc/machine-id" in str(machine.temporary_origin())
    (here / "boot-id").unlink()
    assert machine.machine_id() == ""


@pytest.mark.parametrize("mark", [".dockerenv", ".containerenv"])
def test_a_container_is_known_by_its_marks(here: Path, mark: str) -> None:
    (here / mark).touch()
    assert "container" in str(machine.temporary_origin())


@pytest.mark.parametrize(("variable", "value"), [("container", "podman"), ("KUBERNETES_SERVICE_HOST", "10.0.0.1")])
def test_and_by_its_variables(here: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert "container" in str(machine.temporary_origin())
