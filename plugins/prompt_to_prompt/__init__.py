"""Prompt-to-prompt editing (Hertz et al., arXiv 2208.01626)."""

from .editor import PromptToPrompt

__all__ = ["PromptToPrompt"]
