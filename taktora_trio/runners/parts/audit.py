"""The line in the log for each thing that an operator has asked of a run: who, what, and what has come of it."""

from __future__ import annotations

import logging

from taktora_trio.runners.parts.requests import Answer, Asked

__all__ = ["log_outcome"]

log = logging.getLogger(__name__)
log.setLevel(logging.INFO)  # whatever is logged else: who has asked for what has to be found afterwards


def log_outcome(asked: Asked, answer: Answer) -> None:
    """Log what has come of it."""
    log.log(
        logging.WARNING if answer.code else logging.INFO,
        "%s: %s",
        asked,
        "; ".join(answer.lines) or "passed on",
        extra={
            "event": "audit-failed" if answer.code else "audit-done",
            "verb": asked.verb,
            "half": asked.half,
            "what": asked.what,
            "by_uid": asked.uid,
            "by_pid": asked.pid,
            "exit_code": answer.code,
        },
    )
