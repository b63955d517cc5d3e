"""What is sent as queries, since a query has an answer: acknowledged messages, and the requests of an `Exchange`.

queries.py                Queries: those of one connection
acknowledged_outbound.py  AcknowledgedChannel: sends a message until somebody has replied
acknowledged_inbound.py   Acknowledging: takes such messages, and replies when the app is done with them
numbering.py              what such a message says of its place among those of its sender
requests.py               RequestChannel: asks until the app has its reply
responses.py              ResponseChannel: takes requests, and replies with what the app replies
repeating.py              when a query is repeated, and what is left of its message's life
"""
