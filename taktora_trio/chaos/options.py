"""ChaosOptions: the options of `taktora-trio chaos`."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Annotated, Literal

import attrs
from cyclopts import Parameter

__all__ = ["PROTOCOLS", "ChaosOptions"]

PROTOCOLS = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.ispkg)
"""Those that there is a kit for. The first is the default."""


@attrs.frozen(kw_only=True)
class ChaosOptions:
    """The options of the command, with their help."""

    faults: int = 20
    """The number of faults to bring about, one after the other."""
    seed: int | None = None
    """The schedule: the same seed gives the same faults, in the same order, with the same parameters. Drawn if not
    given, and always shown."""
    protocol: Annotated[str, Parameter(help=f"What the deployment speaks: {' or '.join(PROTOCOLS)}.")] = PROTOCOLS[0]
    mode: Literal["split", "in-process"] = "split"
    """The shape of the deployment. In-process there are the faults of its broker, of the connection and of the run."""
    only: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = ()
    """Only faults of these kinds."""
    keep_going: Annotated[bool, Parameter(negative="")] = False
    """After a broken promise go on with a new run, instead of stopping there."""
    json: Path | None = None
    """Also write every result to this file, as JSON."""
    markdown: Path | None = None
    """Also write the table to this file, as Markdown."""
    warm: Annotated[bool, Parameter(negative="")] = False
    """Start the deployment with --warm."""

    def replay(self, seed: int, faults: int) -> str:
        """Return the command that shows the first `faults` of it again."""
        words = ["taktora-trio", "chaos", "--seed", str(seed), "--faults", str(faults)]
        if self.protocol != PROTOCOLS[0]:
            words += ["--protocol", self.protocol]
        if self.mode != "split":
            words += ["--mode", self.mode]
        if self.only:
            words += ["--only", *self.only]
        return " ".join([*words, *(["--warm"] if self.warm else [])])
