"""The commands `dead-letters ...`, for the messages that an app could not get done with."""

from __future__ import annotations

from cyclopts import App

__all__ = ["dead_letters"]

dead_letters = App(
    name="dead-letters",
    help="""Look after the messages that an app could not get done with: list, show, export, send again, discard.

    A message goes there when the app was given it `max_deliveries` times and was not done with it, for example because
    it was killed each time; or when the app gives it up. Each has a number, which `list` shows.

    These commands work while the deployment runs, and when it does not. Say which one it is by MODULE:DEPLOYMENT, by
    --domain NAME (the domain of its runs), or both. For example:

    taktora-trio dead-letters send greenhouse:deployment 7-12 15
    """,
)
for _name, _help in {
    "list": "List the letters, the oldest first; all unless told which.",
    "show": "Show letters with all that is known of them, and their payload as text, or as hex where it is none.",
    "export": """Write letters as JSON, one a line, with their payload in base64; all unless told which.

    They stay where they are. For example, what the third one said:

    taktora-trio dead-letters export greenhouse:deployment 3 | jq -r .payload | base64 -d
    """,
    "send": """Give letters to the app once more, as new messages of their channel: when what was wrong is mended.

    If a gateway runs it does so at once, else the next one. A letter is removed when the app is done with it, and stays
    if the app isn't. If the gateway is killed meanwhile, the app may be given it twice.
    """,
    "discard": "Remove letters for good; `export` them first.",
}.items():
    dead_letters.command(f"taktora_trio.operate.dead_letters_command:{_name}_letters", name=_name, help=_help)
