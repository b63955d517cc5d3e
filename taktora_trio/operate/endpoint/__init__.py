"""The HTTP endpoint of a run: probes, metrics, and a web page where it is wanted. A process of its own serves it.

command   `taktora-trio endpoint`: the process
http      HTTP/1.1, everything bounded
access    who may ask
answers   what is at which path
metrics   vitals, as Prometheus has them
sampling  what the page is told once a second
verdict   is the run well, and if not, why
page/     the page: no build step, nothing of elsewhere

The probes are those of `operate/probes.py`. All is read from the vitals in shared memory: nobody in the run is asked,
so one that hangs is seen, too.
"""
