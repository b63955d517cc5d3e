"""The command `doctor`: looks at all that a run needs, and says what is wrong and what to do about it.

command        the command: which deployment, as text or as JSON
examination    all checks at once, each bounded in time
report         what was found, for people and for programs
python         the interpreter and the kernel
packages       the libraries, against the versions that are needed
shared_memory  /dev/shm: its size, its rights, and whether a deployment fits
leftovers      files in /dev/shm that no process uses any more
descriptors    the limits of processes
clock          whether the time is right
disk           the folders of the stores, and of dead letters

What is at the other end is examined by each connector: `Connector.diagnose`.
"""
