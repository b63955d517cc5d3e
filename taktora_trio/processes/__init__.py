"""Operating-system processes: started, watched, listened to, and never left behind.

process             a process as something to supervise
notify, link        what a process and its supervisor tell each other
output              what a process writes, line by line
descendants, pidfd  that nothing outlives its owner, and that an end is noticed at once
procfs              what the kernel tells of a process
patience            time that counts only while we run
interpreter         starting another Python that finds what this one finds
warm                starting a process by forking one that has everything imported
"""

from taktora_trio.processes.process import as_process, spawn

__all__ = ["as_process", "spawn"]
