"""The library's node and session. They alone import `zenoh`.

The library has threads of its own, which call back. They hand over to trio's thread, and never wait for it
(`handover.py`). What may wait for the network is called in a worker thread (`sender.py`).

    node.py      joins the network, and knows whether it is linked
    session.py   what one connection declares, sends and gets
    values.py    the library's values and ours
"""
