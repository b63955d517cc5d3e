"""Commands for an operator who looks at a run from outside, or cleans up after it."""
