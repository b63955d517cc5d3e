"""Code for a supervisor, which none of its children runs.

process         a process as something to supervise
group           a child and its process group: signalled, and stopped
watch           the watch over one child: signs of life, and what it died of
deadline        the time until a child must give its next sign
notify_socket   hearing what a child says
start_last      starting a child behind all other processes
child_link      our end of the link to a child
output          what children write, line by line, to streams that may be slow
stderr_tail     the last lines that a child wrote to standard error
tags            lines with the name of the child that wrote them
descendants     ending what a child has left behind
subreaper       waiting for orphans, which become our children
memory_controller  where memory is limited, and whom the kernel has killed for want of it
memory_group    a limit of memory for a child and all that it starts
warm            starting a child by forking a process that has everything imported
"""

from taktora_trio.processes.parent.group import stop_process
from taktora_trio.processes.parent.process import as_process, spawn

__all__ = ["as_process", "spawn", "stop_process"]
