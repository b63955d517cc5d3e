"""One podman and one image for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.operate.containers.image import build_image
from tests.operate.containers.machine import CannotRun, Podman, open_podman


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """Podman with the images `IMAGE` and `NEXT`."""
    try:
        with open_podman(tmp_path_factory.mktemp("podman")) as running:
            build_image(running)
            yield running
    except CannotRun as exc:
        pytest.skip(f"containers can't be run here: {exc}")
