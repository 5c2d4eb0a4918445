"""FlowEdit: editing by the difference of two velocities, without inversion (Kulikov et al., arXiv 2412.08629)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from renoise import Conditioning, DiffusionModel, EditRequest, ImageRNG, InputError, Inversion, PromptEditor, Schedule


class FlowEdit(PromptEditor):
    """Moves the image along the difference of the velocities of its prompt and of the edit prompt (arXiv 2412.08629).

    It is for flow matching. It needs no inversion: with `--model.inversion Noising`, no call of the network is spent on
    one. A step from σ to σ' noises the image, z_source = (1 − σ) z_0 + σ n, and its edit with the same noise,
    z_target = z_source + z_edit − z_0. Then

        z_edit += (σ' − σ) · mean over n of (v(z_target, target prompt) − v(z_source, source prompt)).

    Args:
        replace: Words to replace in the image's prompt, such as `{cat: dog}`; see `PromptSwap`. Null takes the image's
            `edit_text` as the edit prompt.
        guidance_scale: Guidance scale of the edit prompt, 1 or more. 13.5 is the paper's for Stable Diffusion 3.
        strength: Share of the sampler's steps to run, in (0, 1], n_max of the paper: 33 of 50 steps for Stable
            Diffusion 3, 24 of 28 for FLUX. Less keeps more of the image.
        source_guidance_scale: Guidance scale of the image's own prompt, 1 or more. 3.5 is the paper's.
        num_noises: Noises to average over in every step, 1 or more; n_avg of the paper. Each takes the calls of a step.
        seed: Seed of the noises. They depend on it and on the image's name, not on the batch.
    """

    def __init__(
        self,
        replace: dict[str, str] | None = None,
        guidance_scale: float = 13.5,
        strength: float = 0.66,
        source_guidance_scale: float = 3.5,
        num_noises: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(replace, guidance_scale, strength)
        if not source_guidance_scale >= 1:
            raise ValueError(f"{self.name}: source_guidance_scale must be 1 or more, got {source_guidance_scale}")
        if num_noises < 1:
            raise ValueError(f"{self.name}: num_noises must be 1 or more, got {num_noises}")
        self.source_guidance_scale = source_guidance_scale
        self.num_noises = num_noises
        self.seed = seed
        self.needs = frozenset({"image"})

    def check(self, model: DiffusionModel, schedule: Schedule) -> None:
        """Raises ValueError where the model is not of flow matching, the sampler draws noise, or no step is run."""
        super().check(model, schedule)
        try:
            model.check_guidance(self.source_guidance_scale)
        except InputError as error:
            raise InputError(f"{self.name}: source_{error}") from error
        if not model.is_flow:
            raise ValueError(
                f"{self.name} needs a model of flow matching, and {model.pipeline_class} is none; use PromptSwap"
            )
        if schedule.is_stochastic:
            raise ValueError(f"{self.name} needs a sampler that draws no noise; set stochastic_sampling to false")

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Moves the images to their edit prompts; see `Editor.edit`."""
        prompts, names = [request.prompt for request in requests], [request.file_name for request in requests]
        time_ids = inversion.conditioning.time_ids
        source = model.encode_prompts(prompts, self.source_guidance_scale, time_ids=time_ids)
        target = model.encode_prompts(self.edit_prompts(model, requests), self.guidance_scale, time_ids=time_ids)
        rng = ImageRNG(self.seed, names)
        return model.decode_latents(self.move(model, inversion, source, target, rng))

    def move(
        self, model: DiffusionModel, inversion: Inversion, source: Conditioning, target: Conditioning, rng: ImageRNG
    ) -> torch.Tensor:
        """Returns the edited z_0, [B, C, h, w].

        Args:
            model: The model.
            inversion: Of B images. Only `image`, `schedule` and `region` are used.
            source: Of the images' own prompts.
            target: Of the edit prompts.
            rng: Source of the noises.
        """
        image, steps = inversion.image, len(inversion.schedule)
        assert image is not None
        change = torch.zeros_like(image)  # z_edit − z_0, so that no rounding changes what no velocity changes
        for step_index in range(steps - round(self.strength * steps), steps):
            step, difference = inversion.schedule.steps[step_index], torch.zeros_like(image)
            for draw in range(self.num_noises):
                noise = rng.normal(f"FlowEdit {step_index} {draw}", image.shape[1:]).to(image)
                noisy = step.add_noise(image, noise)
                inputs = [noisy] * source.nfe + [noisy + change] * target.nfe
                velocities = model.predict_branches(inputs, step.timestep, source.branches + target.branches)
                difference += model.guide(velocities[source.nfe :], target.guidance_scale)
                difference -= model.guide(velocities[: source.nfe], source.guidance_scale)
            change = change + step.psi / self.num_noises * difference
            if inversion.region is not None:
                change = change.where(inversion.region, 0.0)
        return image + change
