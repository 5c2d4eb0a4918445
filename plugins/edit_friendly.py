"""Edit-friendly DDPM editing (Huberman-Spiegelglas et al., arXiv 2304.06140)."""

from __future__ import annotations

from renoise import PromptEditor


class EditFriendly(PromptEditor):
    """Samples under the edit prompt with the inversion's own noise, and skips the noisiest steps (arXiv 2304.06140).

    It is made for `EditFriendlyInversion`, whose noise carries the image. It works with every inversion method under a
    sampler that draws noise.

    Args:
        replace: Words to replace in the image's prompt, such as `{cat: dog}`; see `PromptSwap`. Null takes the image's
            `edit_text` as the edit prompt.
        guidance_scale: Guidance scale of the edit prompt, 1 or more; see `PromptSwap`.
        strength: Share of the sampler's steps to run, in (0, 1]. The paper skips 36 of 100 steps.
    """

    def __init__(
        self, replace: dict[str, str] | None = None, guidance_scale: float = 3.0, strength: float = 0.64
    ) -> None:
        super().__init__(replace, guidance_scale, strength)
        self.needs |= {"noise"}
