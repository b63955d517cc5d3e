"""The commands `taktora-trio dead-letters ...`: imported when they are asked for. Their help is in `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Parameter

from taktora_trio.operate import dead_letters
from taktora_trio.operate.dead_letters import Which

__all__ = ["discard_letters", "export_letters", "list_letters", "send_letters", "show_letters"]

What = Annotated[
    str,
    Parameter(help="The app, as MODULE:DEPLOYMENT; and numbers of letters, as 7 or 7-12."),
]


@attrs.frozen(kw_only=True)
class Selection:
    """Which letters."""

    domain: str | None = None
    """The domain of the deployment's runs; by default the deployment's name."""
    channel: str | None = None
    """Those of this channel."""
    all: Annotated[bool, Parameter(negative="")] = False
    """All that there are."""
    store: str | None = None
    """The folder that the run was given by --store or TAKTORA_STORE, if it was."""
    config: str | None = None
    """The file of settings of the run, instead of `taktora.toml`."""

    def which(self, what: tuple[str, ...], *, or_all: bool = False) -> Which:
        return Which.of(what, self.domain, self.channel, self.all, self.store, self.config, or_all=or_all)


Selected = Annotated[Selection, Parameter(name="*")]
NOTHING = Selection()


def list_letters(*what: What, selection: Selected = NOTHING) -> int:
    """List letters."""
    return dead_letters.list_letters(selection.which(what, or_all=True))


def show_letters(*what: What, selection: Selected = NOTHING) -> int:
    """Show letters."""
    return dead_letters.show_letters(selection.which(what))


def export_letters(
    *what: What,
    to: Annotated[Path | None, Parameter(help="A new file, for its owner alone; by default standard output.")] = None,
    selection: Selected = NOTHING,
) -> int:
    """Write letters as JSON."""
    return dead_letters.export_letters(selection.which(what, or_all=True), to)


def send_letters(*what: What, selection: Selected = NOTHING) -> int:
    """Give letters to the app once more."""
    return dead_letters.send_letters(selection.which(what))


def discard_letters(*what: What, selection: Selected = NOTHING) -> int:
    """Remove letters."""
    return dead_letters.discard_letters(selection.which(what))
