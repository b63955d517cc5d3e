"""Operating-system processes: started, watched, listened to, and never left behind.

parent/         code for a supervisor
child/          code for a process that may be supervised
link            the messages between the two
lines           reading a stream line by line
interpreter     starting another Python that finds what this one finds
patience        time that counts only while we run
time_slice      who gets a core first
fence           what a process may have of CPUs and memory
pidfd, procfs   noticing the end of any process, and reading about one in /proc
"""
