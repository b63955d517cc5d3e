"""What an operator has chosen for the HTTP endpoint of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from taktora_trio.errors import ConfigError
from taktora_trio.runners.configuration.fields import from_text, is_nothing
from taktora_trio.runners.configuration.given import Given

__all__ = ["Endpoint", "endpoint_of"]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where probes and metrics are served, and what else is there."""

    address: str
    page: bool = False
    """True if it has a web page, too."""
    token_file: str | None = None
    """The file with the token that whoever asks has to give; `None` if nobody has to."""

    def arguments(self) -> list[str]:
        """Return what its process is told at its command line, besides the address."""
        page = ["--endpoint-page"] if self.page else []
        return page if self.token_file is None else [*page, "--endpoint-token-file", self.token_file]


def endpoint_of(keys: Mapping[str, Given]) -> Endpoint | None:
    """Return the endpoint that the keys stand for; `None` for none. Raises `ConfigError`."""
    address, page, token = (keys.get(f"endpoint{rest}") for rest in ("", "-page", "-token-file"))
    if address is None or is_nothing(address.value, str | None):
        for other in (page, token):
            if other is not None and address is None:
                raise other.refused("there is no endpoint for that: give its address, too (--endpoint ADDRESS)")
        return None
    from taktora_trio.runners.configuration.address import parse_address  # most runs have none

    try:
        parse_address(address.value)
    except ConfigError as exc:
        raise address.refused(exc) from None
    return Endpoint(
        address=address.value,
        page=page is not None and from_text("endpoint-page", page.value, bool),
        token_file=None if token is None or is_nothing(token.value, Path | None) else str(_path(token)),
    )


def _path(given: Given) -> Path:
    """Return a path, which counts from the folder of the file that names it."""
    return (Path() if given.folder is None else given.folder).joinpath(given.value).absolute()
