"""The app's half.

open.py      opens a ConnectorHost, for as long as a block lasts
host.py      ConnectorHost: opens writers and readers, and knows each connector's health
writer.py    ChannelWriter, a trio SendChannel
stamps.py    what it adds to the metadata of each message
receipts.py  tasks wait for room, and until messages are stored or acknowledged
reader.py    ChannelReader, a trio ReceiveChannel
asking/      Requester and Responder: request and reply over two channels
rejected.py  messages that a reader could not read
watch.py     what is known of a gateway's life, and what is shown of it: pure
gateways.py  carries that out
"""
