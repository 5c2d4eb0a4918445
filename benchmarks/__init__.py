"""The measurement of every claim; see README.md."""
