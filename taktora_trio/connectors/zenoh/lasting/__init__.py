"""What a gateway knows over all its connections, and much of it over its own end.

lasting.py         Lasting: all of it, as far as the channels need it
latched.py         the last values of latched outbound channels, for whoever asks
kept_by_others.py  what others keep of the keys of latched inbound channels
presence.py        liveliness tokens that inbound channels watch
recovery.py        samples of publishers that number and keep them
missed.py          inbound messages that are lost for good, counted and shown
kept_pairs.py      KeptPairs: a dictionary in memory that outlives a gateway
"""
