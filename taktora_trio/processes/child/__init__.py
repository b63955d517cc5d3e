"""What runs in a process that may be supervised; it imports nothing of `parent/`.

life_signs          what it says to its supervisor: ready, alive, stopping
supervisor_link     its end of the link to our supervisor
zygote              the program that warm starts are forked from
"""
