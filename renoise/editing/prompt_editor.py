"""Editing by sampling the inverted latents under another prompt: the base of every prompt-based editor."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import torch

from renoise.core.schedule import Schedule
from renoise.editing.base import Editor, EditRequest
from renoise.errors import InputWarning, prefixed
from renoise.inversion.base import Inversion
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import effective_guidance_scale


class PromptEditor(Editor):
    """Samples the inverted latents under the edit prompt. Prompt-based editors derive from it.

    Args:
        replace: Words to replace in the image's prompt, such as `{cat: dog}`. Only whole words match, in upper or lower
            case. Null takes the image's `edit_text` as the edit prompt.
        guidance_scale: Guidance scale of the edit prompt, 1 or more. 1 is without guidance and keeps most of the image;
            more changes more. 0 means 1, as in diffusers.
        strength: Share of the sampler's steps to run, in (0, 1]. Below 1 the edit starts from a less noisy latent and
            keeps more of the image.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2)
        >>> inverted = pipeline.invert("data/images/scenes/00-cat.png", "a cat on a checkered green background")
        >>> editor = renoise.PromptEditor(replace={"cat": "dog"}, guidance_scale=2.0)
        >>> editor.edit_prompt(renoise.EditRequest("00-cat.png", "a cat on a checkered green background", None))
        'a dog on a checkered green background'
        >>> inverted.edit(editor=editor)[0].size
        (64, 64)
    """

    def __init__(
        self, replace: dict[str, str] | None = None, guidance_scale: float = 1.5, strength: float = 1.0
    ) -> None:
        with prefixed(f"{self.name}: "):
            self.guidance_scale = effective_guidance_scale(guidance_scale)
        if not 0 < strength <= 1:
            raise ValueError(f"{self.name}: strength must be in (0, 1], got {strength}")
        if replace is not None and (not replace or "" in replace):
            raise ValueError(f"{self.name}: replace must contain words of the prompt, or be null, got {replace}")
        self.replace = replace
        self.strength = strength
        self.needs = frozenset({"trajectory"} if strength < 1 else ())

    @property
    def name(self) -> str:
        """Class name, for messages."""
        return type(self).__name__

    def check(self, model: DiffusionModel, schedule: Schedule) -> None:
        """Raises ValueError where `strength` leaves no step to run; see `Editor.check`."""
        steps = len(schedule)
        if round(self.strength * steps) == 0:
            raise ValueError(
                f"{self.name}: strength {self.strength:g} of {steps} steps leaves no step to run; "
                f"it must be {1 / steps:.2g} or more"
            )

    def edit_prompt(self, request: EditRequest) -> str | None:
        """Returns the prompt to sample under, or None where there is no `edit_text` or no word to replace."""
        if self.replace is None:
            return request.edit_prompt
        # The longest words come first, so that `polar bear` is not matched as `bear`. Each word has a group, and
        # the group's index tells which word matched.
        # A textual inversion such as `<my-cat>` has no group, and stays, unless it is one of the words.
        pairs = sorted(self.replace.items(), key=lambda pair: -len(pair[0]))
        words = r"(?<!\w)(?:" + "|".join(f"({re.escape(word)})" for word, _ in pairs) + r")(?!\w)"
        pattern = re.compile(words + r"|<[^<>\s]+>", re.IGNORECASE)
        if not any(match.lastindex for match in pattern.finditer(request.prompt)):
            return None
        return pattern.sub(lambda match: pairs[match.lastindex - 1][1] if match.lastindex else match[0], request.prompt)

    def refusal(self, request: EditRequest) -> str | None:
        """Returns why an image has no edit prompt, or None where it has one."""
        if self.edit_prompt(request) is not None:
            return None
        if self.replace is None:
            return f"the image has no edit_text, and {self.name} has no words to replace (option replace)"
        return f"the prompt {request.prompt!r} contains none of the words to replace: {', '.join(self.replace)}"

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Samples the images under their edit prompts; see `Editor.edit`."""
        conditioning = model.encode_prompts(
            self.edit_prompts(model, requests), self.guidance_scale, time_ids=inversion.conditioning.time_ids
        )
        return model.decode_latents(sample(model, inversion, conditioning, self.strength))

    def edit_prompts(self, model: DiffusionModel, requests: Sequence[EditRequest]) -> list[str]:
        """Returns the edit prompts of requests that were not refused.

        Warns of a prompt that is too long for the text encoder, if its words were replaced here. The run warns of the
        images' own texts.
        """
        prompts = []
        for request in requests:
            prompt = self.edit_prompt(request)
            if prompt is None:
                raise ValueError(f"{self.name}: {request.file_name}: {self.refusal(request)}")
            prompts.append(prompt)
            cut = model.split_prompt(prompt)[1]
            if cut and self.replace is not None:
                problem = f"the prompt of {self.name} is longer than the text encoder takes; cut off: {cut!r}"
                warnings.warn(f"{request.file_name}: {problem}", InputWarning, stacklevel=2)
        return prompts
