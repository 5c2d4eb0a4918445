"""The measurement of every claim. Runs from a checkout: see README.md."""
