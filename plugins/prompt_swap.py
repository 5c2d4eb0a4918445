"""Prompt swap: the inverted latents, sampled under another prompt."""

from __future__ import annotations

from renoise import PromptEditor


class PromptSwap(PromptEditor):
    """Samples the inverted latents under the image's `edit_text`, or under its prompt with words replaced.

    Args:
        replace: Words to replace in the image's prompt, such as `{cat: dog}`. Only whole words match, in upper or lower
            case. Null takes the image's `edit_text` as the edit prompt.
        guidance_scale: Guidance scale of the edit prompt, 1 or more. 1 is without guidance and keeps most of the image;
            more changes more. 0 means 1, as in diffusers.
        strength: Share of the sampler's steps to run, in (0, 1]. Below 1 the edit starts from a less noisy latent and
            keeps more of the image.
    """
