"""Pix2pix-zero editing (Parmar et al., arXiv 2302.03027)."""

from .editor import Pix2PixZero

__all__ = ["Pix2PixZero"]
