"""The app's half: its host, its ends of the channels, and what is known of the gateway."""
