"""Dead letters: messages that the app could not get done with, on disk until an operator says what becomes of them.

letters  puts them there, for a gateway
file     the SQLite file, which the gateway and the operator's command use at the same time
letter   one of them
"""
