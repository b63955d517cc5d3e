"""Keeping a task or a process running, by the restart rules of OTP and with the process care of systemd.

backoff, policy     what an operator decides
engine              the decision: pure
supervisor          carries it out, for whatever can be started and ends
task, process       the two kinds of thing that can
notify, link        what a process and its supervisor tell each other
output              what a process writes, line by line
descendants, pidfd  that nothing outlives its owner, and that an end is noticed at once
procfs              what the kernel tells of a process
interpreter         starting another Python that finds what this one finds
warm                starting a process by forking one that has everything imported
"""

from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.supervision.process import as_process, spawn
from taktora_trio.supervision.supervisor import Exit, Supervisor
from taktora_trio.supervision.task import as_task

__all__ = ["Backoff", "Exit", "RestartPolicy", "Supervisor", "as_process", "as_task", "spawn"]
