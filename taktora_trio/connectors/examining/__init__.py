"""Steps of `taktora-trio doctor` that are the same for every protocol over the network, each bounded in time.

reaching      the addresses behind a name, and which of them take a connection
tls           the handshake, and what is wrong with a certificate
certificate   reads a certificate (X.509), also one that does not verify
"""
