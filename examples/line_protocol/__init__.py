"""A connector of your own: lines of text over TCP, at least once both ways. docs/connectors.md walks through it.

A line is words with a space between them, each percent-encoded (RFC 3986), so that any bytes travel.

    the client says                  the server says
    HELLO name                       WELCOME, or SORRY reason
    SUB topic topic ...              READY, and from then on
                                     MSG number topic payload     again on each connection until
    GOT number                                                    it has this answer
    PUB number topic payload         ACK number, or NAK number reason
    PING                             PONG
    BYE                              (closes the connection)

To try it, each of the two in a terminal of its own:

    python -m examples.line_protocol.server
    taktora-trio run examples.line_protocol:deployment --mode split

And to ask, in a third one:

    printf 'HELLO me\\nSUB replies\\nPUB 1 requests hello\\n' | nc 127.0.0.1 7007
"""

from examples.line_protocol.connector import LineConnector, LineRouting
from taktora_trio import Deployment, Inbound, Outbound, RawCodec

REQUESTS = Inbound("requests", bytes, LineRouting("requests"))
REPLIES = Outbound("replies", bytes, LineRouting("replies"))

deployment = Deployment(
    "line", "examples.line_protocol.app:echo", [LineConnector([REQUESTS, REPLIES], codec=RawCodec())]
)
