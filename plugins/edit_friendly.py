"""Edit-friendly DDPM editing: the new prompt under the noise that leads back to the image."""

from __future__ import annotations

from .prompt_swap import PromptSwap


class EditFriendly(PromptSwap):
    """Samples under the new prompt with the inversion's own noise, leaving out the noisiest steps (arXiv 2304.06140).

    Made for `--model.inversion edit_friendly`, whose noise carries the image; any inversion of a sampler that draws
    noise will do.

    Args:
        replace: words to replace in the prompt, such as `{cat: dog}`; see `PromptSwap`. Null takes each image's
            `edit_text`.
        guidance_scale: how strongly the new prompt pulls.
        strength: share of the sampler's steps that see the new prompt, in (0, 1]; the paper leaves out 36 of 100.
    """

    def __init__(
        self, replace: dict[str, str] | None = None, guidance_scale: float = 3.0, strength: float = 0.64
    ) -> None:
        super().__init__(replace, guidance_scale, strength)
        self.needs |= {"noise"}
