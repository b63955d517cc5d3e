"""From a deployment to running processes: the two shapes, each half, and what a program of ours needs around them."""
