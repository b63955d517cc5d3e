"""Request and reply, over two channels of an `Exchange`. An app reaches it by `host.open_requester` and `host.serve`.

requester.py  sends requests, and gives each reply to whoever waits for it
responder.py  has a handler answer requests, each once
work.py       the work at one request
request.py    what the handler gets
answered.py   requests that were answered, kept for their repeats: pure
"""
