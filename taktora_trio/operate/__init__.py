"""What an operator asks of a run from outside."""
