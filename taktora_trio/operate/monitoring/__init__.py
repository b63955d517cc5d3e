"""Commands that show a run from outside. None of them asks it anything, so they show one that hangs, too.

status_command  `status` and `ps` as they are typed
status          a run as it is now, in lines or as JSON
ps              every run of this user, a line each
which           the run that is meant, or the only one
table           rows as lines
live_commands   `top`, `hz` and `echo` as they are typed
top             the loop of `top`: a screen, or plain frames where there is no terminal
dashboard       what `top` shows, as lines of a given width
tracking        rates of a run, second by second
terminal        a terminal as a screen: keys, its size, and put back as it was
hz              how often messages come, by the times that they have in shared memory
intervals       the times from one message to the next: pure
echo            messages as they pass by
formatting      numbers, times and names in few characters
"""
