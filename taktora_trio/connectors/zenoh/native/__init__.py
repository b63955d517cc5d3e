"""The library's node and session. They alone import `zenoh`.

The library has threads of its own, which call back. They hand over to trio's thread, and never wait for it
(`handover.py`). What may wait for the network is called in a worker thread.

    node.py        joins the network, and knows whether it is linked
    session.py     what one connection declares, sends and gets
    question.py    a query that came
    lanes.py       the answers to queries that were asked in turn
    recovering.py  publishers that keep what they put, and subscribers that ask for what they miss
    sender.py      from trio's thread to one that may have to wait
    link.py        the socket of a link: how it ended, and what it has not sent
    values.py      the library's values and ours
"""
