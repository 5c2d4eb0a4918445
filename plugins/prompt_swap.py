"""Prompt swap: the inverted latents, sampled under another prompt."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence

import torch

from renoise.core.schedule import Schedule
from renoise.editing.base import Editor, EditRequest
from renoise.errors import InputError, InputWarning
from renoise.inversion.base import Inversion, sample
from renoise.models.base import DiffusionModel


class PromptSwap(Editor):
    """Denoises the inverted latents under the image's `edit_text`, or under its prompt with words replaced.

    Args:
        replace: words to replace in the prompt, such as `{cat: dog}`; whole words, upper and lower case alike. Null
            takes each image's `edit_text`.
        guidance_scale: how strongly the new prompt pulls; 1 keeps most of the picture, more changes more.
        strength: share of the sampler's steps that see the new prompt, in (0, 1]; below 1 the edit begins at a cleaner
            level and keeps more of the picture.
    """

    def __init__(
        self, replace: dict[str, str] | None = None, guidance_scale: float = 1.5, strength: float = 1.0
    ) -> None:
        if not (math.isfinite(guidance_scale) and guidance_scale >= 0):
            raise InputError(f"{self.name}: guidance_scale must be 0 or more, got {guidance_scale}")
        if not 0 < strength <= 1:
            raise InputError(f"{self.name}: strength must lie in (0, 1], got {strength}")
        if replace is not None and (not replace or "" in replace):
            raise InputError(f"{self.name}: replace must name words of the prompt, or be null; got {replace}")
        self.replace = replace
        self.guidance_scale, self.strength = guidance_scale, strength
        self.needs = frozenset({"trajectory"} if strength < 1 else ())

    @property
    def name(self) -> str:
        """The class's, for messages."""
        return type(self).__name__

    def check(self, model: DiffusionModel, schedule: Schedule) -> None:
        """Raises InputError where the strength leaves no step to take."""
        steps = len(schedule)
        if round(self.strength * steps) == 0:
            least = f"it must be {1 / steps:.2g} or more"
            raise InputError(f"{self.name}: strength {self.strength:g} of {steps} steps is none of them; {least}")

    def edit_prompt(self, request: EditRequest) -> str | None:
        """The prompt to sample under; None where there is no `edit_text`, or no word to replace."""
        if self.replace is None:
            return request.edit_prompt
        # The longest first, so that `polar bear` is not taken for `bear`; a group each, to know which one it was.
        pairs = sorted(self.replace.items(), key=lambda pair: -len(pair[0]))
        pattern = r"(?<!\w)(?:" + "|".join(f"({re.escape(word)})" for word, _ in pairs) + r")(?!\w)"

        def new_word(match: re.Match[str]) -> str:
            return pairs[(match.lastindex or 0) - 1][1]

        prompt, count = re.subn(pattern, new_word, request.prompt, flags=re.IGNORECASE)
        return prompt if count else None

    def refusal(self, request: EditRequest) -> str | None:
        """The reason where an image has nothing to be edited to."""
        if self.edit_prompt(request) is not None:
            return None
        if self.replace is None:
            return f"the image has no edit_text and {self.name} no words to replace"
        return f"the prompt {request.prompt!r} holds none of the words to replace: {', '.join(self.replace)}"

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Samples every image under its new prompt, [B, 3, H, W] in [0, 1]."""
        sizes = inversion.conditioning.time_ids
        conditioning = model.encode_prompts(self.edit_prompts(model, requests), self.guidance_scale, time_ids=sizes)
        return model.decode_latents(sample(model, inversion, conditioning, self.strength))

    def edit_prompts(self, model: DiffusionModel, requests: Sequence[EditRequest]) -> list[str]:
        """The prompts of requests that were not refused; warns of those made here that the text encoder cuts off."""
        prompts = []
        for request in requests:
            prompt = self.edit_prompt(request)
            assert prompt is not None, "`refusal` turns these away"
            prompts.append(prompt)
            cut = model.split_prompt(prompt)[1]
            if cut and self.replace is not None:  # of an image's own texts the run warns
                problem = f"{self.name}'s prompt is longer than the text encoder takes; cut off: {cut!r}"
                warnings.warn(f"{request.file_name}: {problem}", InputWarning, stacklevel=2)
        return prompts
