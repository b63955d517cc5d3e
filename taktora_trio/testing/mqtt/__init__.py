"""What the tests of an app need of MQTT: a real broker in their hands.

mosquitto      a broker under control
peers          the brokers of a deployment, each connector's behind a network of its own
acknowledging  holds up what a broker acknowledges
"""
