"""ReNoise: real image inversion through iterative noising (arXiv 2403.14602)."""

from importlib.metadata import version

__version__ = version("renoise")
