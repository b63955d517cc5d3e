"""What the tests of an app need of Zenoh: a real router in their hands.

router   a router under control
peers    the routers of a deployment, each connector's behind a network of its own
"""
