"""A connector's settings: options of the command line that it brings, and hooks that a run calls.

A connector lists its settings. The commands take `--NAME VALUE` for every connector that has this setting, and
`--NAME CONNECTOR=VALUE` for one connector. Deployments and runners know no protocol: they call the hooks below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import attrs

if TYPE_CHECKING:
    from taktora_trio.connectors.finding import Finding

__all__ = ["Configurable", "Setting", "SettingValue", "SettingValues"]

Kind: TypeAlias = Literal["text", "path", "url", "secret"]


@attrs.frozen
class Setting:
    """An option of the command line that a connector brings."""

    name: str
    """The option without its dashes, such as `ca-file`."""
    help: str
    kind: Kind = attrs.field(default="text", kw_only=True)
    """`text` and `path` are taken as they stand. A `url` may have a secret in it, and may be given as `@FILE`. A
    `secret` is given by the path of a file that has it; end its name with `-password-file`, and it may be given by the
    environment variable `TAKTORA_..._PASSWORD` too."""
    words: frozenset[str] = attrs.field(default=frozenset(), kw_only=True)
    """Values that stand for something which only a whole run can start, see `Configurable.open_supply`."""
    repeatable: bool = attrs.field(default=False, kw_only=True)
    """True if it may be given several times: the texts then come as one, with commas between them."""
    identifies: bool = attrs.field(default=False, kw_only=True)
    """True if the other side knows the gateway by this value, instead of a name that is made of this machine's."""
    hint: Any = attrs.field(default=None, kw_only=True, repr=False)
    """The type of the field of its options that it is; `None` for a setting that a connector lists."""

    @property
    def option(self) -> str:
        """The option as it is typed, such as `--ca-file`."""
        return f"--{self.name}"


@attrs.frozen
class SettingValue:
    """A value that an operator has given for a setting."""

    text: str = attrs.field(repr=False)
    """The text that was typed, or for a `url` the content of its file. Empty for a `secret`."""
    secret: bytes = attrs.field(default=b"", repr=False)
    """The content of the file. Only a `secret` has it."""
    content: bytes | None = attrs.field(default=None, repr=False)
    """The content of a file that is in memory alone, where the text is its path in this process."""
    connector: str | None = None
    """The only connector that it is for; `None` if it is for each one that has the setting."""
    is_shared: bool = False
    """True if it is for several connectors."""
    variable: str | None = attrs.field(default=None, eq=False)
    """The environment variable that the value was taken from; `None` if it was not."""
    file: str | None = attrs.field(default=None, eq=False)
    """The place in a file of settings, as `taktora.toml:12`, that the value was taken from; `None` if it was not."""

    @property
    def rank(self) -> int:
        """Where it was given: 1 for a file, 2 for the environment, 3 at the command line or by a program.

        A higher one wins, also over one that is for this connector alone.
        """
        return 1 if self.file is not None else 2 if self.variable is not None else 3

    @property
    def path(self) -> Path:
        """The text as a path."""
        return Path(self.text)


SettingValues: TypeAlias = Mapping[str, SettingValue]
"""A connector's values, by the setting's name."""


class Configurable:
    """Base of `Connector`: hooks that a run calls. Override those that you need; each does nothing by default."""

    __slots__ = ()

    settings: ClassVar[Sequence[Setting]] = ()
    """The options that the connector brings to the command line."""

    def configured(self, values: SettingValues) -> Self:
        """Return the same connector with these values instead of its own. Raises `ConfigError` for what can't be."""
        if values:
            raise NotImplementedError(f"{type(self).__name__} has settings: define configured(values)")
        return self

    def unused(self, values: SettingValues) -> Mapping[str, str]:
        """Return the settings whose value would change nothing in this connector, each with the reason.

        A value of which no connector makes use is refused with this reason, since the operator has asked for something
        that would not happen. With an empty reason it is left out instead: another value has taken its place.
        """
        return {}

    @classmethod
    def open_supply(cls, setting: str, word: str) -> AbstractAsyncContextManager[str]:
        """Start the thing that this word of a setting stands for, and yield the value for the run to use instead.

        It lasts as long as the block. It is called once for a run, however many connectors were given the word.
        """
        raise NotImplementedError(f"{cls.__name__} has words in its setting {setting!r}: define open_supply")

    def check_files(self) -> None:
        """Raise `ConfigError` if a file that the connector names can't be used. Called before anything is started."""

    async def preflight(self) -> None:
        """Raise `ConfigError` if the other side can't be reached now. Called before a run, unless it is to wait."""

    async def diagnose(self, name: str, trial: str | None = None) -> Sequence[Finding]:
        """Look at the other side for `taktora-trio doctor`, and return what was found, in the order of its steps.

        `name` is what the gateway is called there by default. A gateway may be connected now: disturb neither it nor
        what is kept for it. Bound each step in time. `trial` is an address that the operator has chosen, for messages
        that are sent only to see whether they come back; without it send nothing. By default it is what `preflight`
        finds.
        """
        from taktora_trio.connectors.finding import fail, ok  # no run needs it
        from taktora_trio.errors import ConfigError

        if type(self).preflight is Configurable.preflight:
            return ()
        try:
            await self.preflight()
        except ConfigError as exc:
            return [fail("reached", str(exc), "mend what this says")]
        return [ok("reached", "the other side can be reached")]

    @property
    def preload(self) -> Iterable[str]:
        """The modules that its gateway needs, for a warm start to import beforehand."""
        return ()

    @property
    def native_library(self) -> str | None:
        """The name of a library in its gateway that is native code with threads of its own; `None` if there is none.

        No task's end stops these threads, and nothing holds back a crash of them but a process.
        """
        return None

    def warning_of_temporary_name(self, origin: str) -> str | None:
        """Return a warning if the other side keeps something for the gateway by a name that is made of `origin`.

        `origin` is something of this machine that the next start may not have, such as a container's host name.
        """
        return None

    async def forget(self, name: str, *, even_if_up: bool) -> str | None:
        """Have the other side forget the gateway for good, and return a line that says what it has forgotten.

        `name` is what the gateway is called there by default. Returns `None` where nothing is kept. Raises
        `ConfigError` if it seems to be connected, unless `even_if_up`, and `ConnectorError` if it can't be done.
        """
        return None
