"""When something that failed is started again: decided purely, and carried out for tasks and for processes.

backoff     the delays between attempts
policy      what an operator decides
engine      the decision: a pure function
supervisor  carries the decision out, for anything that can be started and ends
task        a task as something to supervise
allowance   how many events in a time are too many
explain     what a policy comes to, in figures
"""

from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.supervision.supervisor import Exit, Supervisor
from taktora_trio.supervision.task import as_task

__all__ = ["Backoff", "Exit", "RestartPolicy", "Supervisor", "as_task"]
