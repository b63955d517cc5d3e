"""Shared memory: the only package that imports iceoryx2.

A domain, a deployment's private corner of shared memory (no iceoryx2 yet):

domain          its names, its roles, its files, and readiness
orphans         halves whose supervisor was killed: waited for, and ended
folder          the user's folder, and the files of each run: names are checked before they are used
kept            files that outlive a run
locks           the locks on roles
doorbell        waiting for an owner that is not there yet
pulse           life signs of those who have a role
snapshot        what a process says of itself, for anybody who looks
flight          the last seconds of a half, which outlive it
machine         the identity of this machine

Memory, reserved so that a full /dev/shm never hurts what is open:

segments        our files in /dev/shm itself, and the memory that is left there
reservation     memory is looked for before something is created, and set aside after it
pages           setting pages aside
turn            the processes of a domain open things in turn
pauses          waiting between tries
descriptors     descriptors that are needed, and why something could not be opened
sizing          the memory of a whole deployment, computed before any is taken

Services and ports:

mapped          files that are mapped, or read by others
plain           a mapped file, or what stands for one
ports           what a half needs to reach the other one, whatever memory lies between them
local           the same in plain memory, for two halves of one task tree: no iceoryx2
node            a process's iceoryx2 node in a domain
spec            what both halves must agree on: the channels of a connector, and the bytes they come to
services        services are created by one process, and opened by the others
cleaning        freeing the places of killed processes, also of killed cleaners
attaching       opening ports
bell            one listener for many channels: each waited for by itself, or all by one task
listener_socket the socket of an iceoryx2 listener
envelope        the one wire form
ring            the envelopes of all channels of a direction, in one sample
fence           the order in which another processor sees stores
cursor          counters that outlive both ends of a channel
lasting         small memories that outlive a killed gateway
receipts        what became of single messages, in the cursor's file
deliveries      how often the app was given a message, and why it was given up
openings        what each gateway had acknowledged at its end
trunk           one half's end of all channels of a connector
reconnection    connecting two halves that could not be connected when the later one came
outgoing        the memory that a half writes
incoming        the memory that a half reads, of the present writer and of those before it
publisher       the writing end of a channel
subscriber      the reading end of a channel
counts          what has gone through a channel, as one half can tell
source, sink    the gateway's ends of a channel, for raw payloads
outside         what a third process may know of a domain that runs
following       a third process reads the messages of a channel that pass by
health          the service by which a gateway says how it is
"""
