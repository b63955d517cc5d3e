"""Code for a process that may be supervised. It imports nothing of `parent/`.

life_signs          telling the supervisor: ready, alive, stopping
supervisor_link     the child's end of the link to a supervisor of ours
zygote              the program that warm starts are forked from
"""
