"""The commands for one picture: `renoise edit` and `renoise invert`. They use the Python API and write a few files."""
