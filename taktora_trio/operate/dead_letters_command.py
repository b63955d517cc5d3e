"""The command `taktora-trio dead-letters`. It is only imported when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import App, Parameter

from taktora_trio.operate import dead_letters
from taktora_trio.operate.dead_letters import Which

__all__ = ["app"]

app = App(name="dead-letters")  # the command has its help, to show it without this module

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
    store: Path | None = None
    """The folder that the run was given by --store or TAKTORA_STORE, if it was."""

    def which(self, what: tuple[str, ...], *, or_all: bool = False) -> Which:
        return Which.of(what, self.domain, self.channel, self.all, self.store, or_all=or_all)


Selected = Annotated[Selection, Parameter(name="*")]
NOTHING = Selection()


@app.command(name="list")
def list_(*what: What, selection: Selected = NOTHING) -> int:
    """List the letters, the oldest first; all unless told which."""
    return dead_letters.list_letters(selection.which(what, or_all=True))


@app.command
def show(*what: What, selection: Selected = NOTHING) -> int:
    """Show letters with all that is known of them, and their payload as text, or as hex where it is none."""
    return dead_letters.show_letters(selection.which(what))


@app.command
def export(
    *what: What,
    to: Annotated[Path | None, Parameter(help="A new file, for its owner alone; by default standard output.")] = None,
    selection: Selected = NOTHING,
) -> int:
    """Write letters as JSON, one a line, with their payload in base64; all unless told which. They stay where they are.

    For example, what the third one said: `... export greenhouse:deployment 3 | jq -r .payload | base64 -d`
    """
    return dead_letters.export_letters(selection.which(what, or_all=True), to)


@app.command
def send(*what: What, selection: Selected = NOTHING) -> int:
    """Give letters to the app once more, as new messages of their channel: when what was wrong with it is mended.

    If a gateway runs it does so at once, else the next one. A letter is removed when the app is done with it, and stays
    if the app isn't. If the gateway is killed meanwhile, the app may be given it twice.
    """
    return dead_letters.send_letters(selection.which(what))


@app.command
def discard(*what: What, selection: Selected = NOTHING) -> int:
    """Remove letters for good. `export` them first."""
    return dead_letters.discard_letters(selection.which(what))
