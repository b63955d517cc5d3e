"""The app's half.

open.py      opens a ConnectorHost, for as long as a block lasts
host.py      ConnectorHost: opens writers and readers, and knows each connector's health
writer.py    ChannelWriter, a trio SendChannel
stamps.py    what it adds to the metadata of each message
receipts.py  tasks wait for room, and until messages are stored or acknowledged
reader.py    ChannelReader, a trio ReceiveChannel; taken.py: a message that was taken from it as a piece of work
handover.py  what the app was given and is done with, as the gateway is told of it; in_hand.py: the same, pure
asking/      Requester and Responder: request and reply over two channels
rejected.py  messages that a reader could not read
watch.py     what is known of a gateway's life, and what is shown of it: pure
gateways.py  carries that out
figures.py   what this half says of its channels and connectors, to the app and on its page
"""
