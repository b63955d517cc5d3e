"""Keeping a task or a process running: a restart policy (pure), and one supervisor each that carries it out."""

from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.supervision.process import ProcessExit, supervise_process
from taktora_trio.supervision.task import supervise_task

__all__ = ["Backoff", "ProcessExit", "RestartPolicy", "supervise_process", "supervise_task"]
