"""A network and its nodes inside one process, for tests and for trying things out without a network.

The network stands for a router that is always there: a node is linked while its line is not cut. What one node sends,
another one is handed in a later turn of the loop, as by the library.

    node.py       joins a network
    session.py    what one connection declares, sends and gets
    questions.py  a question on its way, and back
    network.py    what lies between: lines that fail as they are told to
"""
