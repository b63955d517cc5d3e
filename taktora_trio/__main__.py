"""`python -m taktora_trio`, the same as `taktora-trio`."""

import sys
from typing import NoReturn

from taktora_trio import lean as lean  # before any other library is imported

# isort: split
from taktora_trio.runners.this_process.outcome import call
from taktora_trio.runners.this_process.surroundings import settle

__all__ = ["main"]


def main() -> NoReturn:
    """The command's entry point. Bad input ends it with one clear line and exit code 2, what may pass with 75."""
    sys.exit(call(_run))


def _run() -> int | None:
    settle()
    if sys.argv[1:2] == ["healthcheck"]:
        from taktora_trio.operate.healthcheck import plain_healthcheck  # it needs little, and is asked often

        if (check := plain_healthcheck(sys.argv[1:])) is not None:
            return check()
    from taktora_trio.runners.command.typed import plain_half
    from taktora_trio.runners.secrets import hide_secrets

    arguments = hide_secrets((), sys.argv[1:])
    if (half := plain_half(arguments)) is not None:
        return half()
    from taktora_trio.cli import parse  # with it comes the parser

    return parse(arguments)()


if __name__ == "__main__":
    main()
