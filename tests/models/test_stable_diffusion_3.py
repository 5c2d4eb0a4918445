from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from helpers.flow_sampling import PROMPTS, STEPS, our_latents
from helpers.stable_diffusion_3 import random_pipeline
from renoise_plugins.prompt_to_prompt import PromptToPrompt
from torch import nn

import renoise
from renoise.core.schedule import Schedule
from renoise.editing.runner import check_needs
from renoise.errors import InputError
from renoise.inversion.base import Inversion
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model, wrap_pipeline


@pytest.fixture(scope="module", params=[False, True], ids=["without T5", "with T5"])
def model(request: pytest.FixtureRequest) -> DiffusionModel:
    return wrap_pipeline(random_pipeline(t5=request.param))


def noise(batch: int = 2, height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.randn(batch, 4, height, width, generator=torch.Generator().manual_seed(0))


def own_latents(pipeline: StableDiffusion3Pipeline, start: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    height, width = (side * pipeline.vae_scale_factor for side in start.shape[-2:])
    latents: torch.Tensor = pipeline(
        list(PROMPTS[: len(start)]),
        height=height,
        width=width,
        latents=start.clone(),
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale,
        output_type="latent",
    ).images
    return latents


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 8, 8), (2, 8, 8), (2, 4, 12)])
def test_sampling_equals_the_pipelines_own_bit_for_bit(
    model: DiffusionModel, batch: int, height: int, width: int, guidance_scale: float
) -> None:
    start = noise(batch, height, width)
    expected = own_latents(model.pipeline, start, guidance_scale)
    assert torch.equal(our_latents(model, start, guidance_scale), expected)


def test_a_long_prompt_reaches_t5_as_in_the_pipeline() -> None:
    model = wrap_pipeline(random_pipeline(t5=True))
    prompt = "a cat and a dog and a frog on a plain red background and more words than the CLIPs take"
    with torch.no_grad():
        own = model.pipeline.encode_prompt(prompt, None, None, do_classifier_free_guidance=False)
        ours = model.encode_prompts([prompt])
    assert torch.equal(ours.prompt_embeds, own[0])
    assert model.split_prompt(prompt) == (prompt, "")
    kept, rest = model.split_prompt("cat " * 200)
    assert len(model.token_spans("a cat")) == 2
    assert len(kept) < 200 * 4
    assert kept + rest == "cat " * 200


def test_without_t5_a_prompt_is_cut_at_the_length_of_the_clips() -> None:
    model = wrap_pipeline(random_pipeline(t5=False))
    kept, _ = model.split_prompt("cat " * 20)
    assert kept.split() == ["cat"] * 14


@pytest.mark.parametrize("t5", [False, True], ids=["without T5", "with T5"])
def test_a_checkpoint_is_loaded_with_and_without_t5(t5: bool, tmp_path: Path) -> None:
    random_pipeline(t5).save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert (loaded.pipeline.text_encoder_3 is not None) == t5
    with torch.no_grad():
        found, expected = (
            each.encode_prompts(PROMPTS).prompt_embeds for each in (loaded, wrap_pipeline(random_pipeline(t5)))
        )
    assert torch.equal(found, expected)


@torch.no_grad()
def test_a_lora_is_merged_as_diffusers_applies_it(tmp_path: Path) -> None:
    pipeline = random_pipeline()
    pipeline.save_pretrained(tmp_path / "model")
    generator = torch.Generator().manual_seed(1)
    name = "transformer_blocks.0.attn.to_q"
    layers = {
        f"{name}.lora_A.weight": torch.randn(2, 16, generator=generator),
        f"{name}.lora_B.weight": torch.randn(16, 2, generator=generator),
    }
    StableDiffusion3Pipeline.save_lora_weights(tmp_path / "lora", transformer_lora_layers=layers)
    start = noise()
    merged = our_latents(load_model(str(tmp_path / "model"), lora=str(tmp_path / "lora")), start, 1.0)
    plain = own_latents(pipeline, start, 1.0)
    pipeline.load_lora_weights(tmp_path / "lora")
    torch.testing.assert_close(merged, own_latents(pipeline, start, 1.0), rtol=1e-4, atol=1e-4)
    assert (merged - plain).abs().max() > 1e-2


def test_in_bfloat16_latents_stay_in_float32(tmp_path: Path) -> None:
    random_pipeline(t5=True).save_pretrained(tmp_path)
    loaded = renoise.load(tmp_path, num_inference_steps=STEPS, dtype=torch.bfloat16)
    assert loaded.model.dtype == torch.bfloat16
    inverted = loaded.invert(torch.rand(1, 3, 16, 16), "a cat")
    assert inverted.inversion.latents.dtype == torch.float32
    assert inverted.inversion.latents.isfinite().all()


def test_images_are_shifted_and_scaled_as_in_the_pipeline() -> None:
    pipeline = random_pipeline()
    model = wrap_pipeline(pipeline)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents = model.encode_images(images)
        mean = pipeline.vae.encode(2 * images - 1).latent_dist.mean
        torch.testing.assert_close(latents, (mean - 0.3) * 1.5)
        decoded = model.decode_latents(latents)
        own = pipeline.image_processor.postprocess(pipeline.vae.decode(latents / 1.5 + 0.3).sample, output_type="pt")
    assert torch.equal(decoded, own)


class Changed(nn.Module):
    """A transformer with a mistake."""

    def __init__(self, network: nn.Module, mistake: str) -> None:
        super().__init__()
        self.network = network
        self.mistake = mistake

    def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor, **inputs: object) -> tuple[torch.Tensor]:
        timestep = timestep / 1000 if self.mistake == "lost /1000" else timestep
        output = self.network(hidden_states, timestep=timestep, **inputs)[0]
        return (-output if self.mistake == "flipped sign" else output,)


@pytest.mark.parametrize("mistake", ["flipped sign", "lost /1000", "lost shift"])
def test_the_comparison_finds_a_mistake(mistake: str) -> None:
    model = wrap_pipeline(random_pipeline())
    start = noise()
    expected = own_latents(model.pipeline, start, 1.0)
    assert torch.equal(our_latents(model, start, 1.0), expected)
    if mistake == "lost shift":
        model.pipeline.scheduler = random_pipeline(shift=1.0).scheduler
    else:
        network, dtype = model.network, model.dtype
        model.network = Changed(network, mistake)
        assert model.dtype == dtype
    assert (our_latents(model, start, 1.0) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_inversion_and_back_is_exact_in_float64(warm_start: bool, guidance_scale: float) -> None:
    pipeline = random_pipeline().to(dtype=torch.float64)
    inversion = renoise.ReNoise(iterations=100, tolerance=1e-13, warm_start=warm_start)
    loaded = renoise.load(pipeline, num_inference_steps=12, guidance_scale=guidance_scale, inversion=inversion)
    latents = noise().double()
    conditioning = loaded.model.encode_prompts(PROMPTS, guidance_scale)
    inverted = loaded.invert_latents(latents, conditioning, names=["a", "b"])
    assert (inverted.latents - latents).std() > 0.1
    back = sample(loaded.model, inverted)
    assert (back - latents).abs().max() <= 1e-8


@pytest.mark.parametrize("solver", [renoise.Renoising(), renoise.Anderson()], ids=["Renoising", "Anderson"])
def test_a_budget_is_kept_and_spent_where_it_helps(solver: renoise.Solver) -> None:
    pipeline = random_pipeline().to(dtype=torch.float64)
    errors = []
    for max_nfe in (12, 24, 48):
        inversion = renoise.ReNoise(max_nfe=max_nfe, warm_start=True, solver=solver)
        loaded = renoise.load(pipeline, num_inference_steps=12, inversion=inversion)
        latents = noise().double()
        inverted = loaded.invert_latents(latents, loaded.model.encode_prompts(PROMPTS), names=["a", "b"])
        assert (inverted.nfe <= max_nfe).all()
        errors.append(float((sample(loaded.model, inverted) - latents).square().mean()))
    assert errors[2] < errors[1] < errors[0]


def test_direct_inversion_follows_its_trajectory_and_edict_is_refused() -> None:
    loaded = renoise.load(random_pipeline(), num_inference_steps=STEPS, inversion=renoise.DirectInversion())
    latents = noise()
    inverted = loaded.invert_latents(latents, loaded.model.encode_prompts(PROMPTS), names=["a", "b"])
    assert torch.equal(sample(loaded.model, inverted), latents)
    with pytest.raises(InputError, match=r"^inversion: EDICT works .* flow matching starts; take ReNoise$"):
        renoise.load(random_pipeline(), num_inference_steps=STEPS, inversion=renoise.EDICT())


def test_a_stochastic_flow_sampler_is_inverted_with_its_noise() -> None:
    pipeline = random_pipeline(stochastic=True).to(dtype=torch.float64)
    inversion = renoise.ReNoise(stochastic_steps="posterior")
    loaded = renoise.load(pipeline, num_inference_steps=STEPS, inversion=inversion)
    latents = noise().double()
    inverted = loaded.invert_latents(latents, loaded.model.encode_prompts(PROMPTS), names=["a", "b"])
    steps = loaded.schedule.steps
    assert [step.rho != 0 for step in steps] == [True] * (STEPS - 1) + [False]
    back = sample(loaded.model, inverted)
    assert (back - latents).abs().max() <= 1e-2  # the last step, which draws no noise, is solved by two calls


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_a_scheduler_of_another_kind_is_refused_with_the_one_to_take(name: str) -> None:
    with pytest.raises(InputError, match=rf"^scheduler: {name} cannot .* take FlowMatchEulerDiscreteScheduler$"):
        renoise.load(random_pipeline(), scheduler=name, num_inference_steps=2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("FlowMatchEulerDiscreteScheduler", None),
        ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
    ],
)
def test_a_flow_scheduler_on_a_unet_is_refused_with_those_to_take(
    name: str, options: dict[str, object] | None, tiny_sd: Path
) -> None:
    with pytest.raises(InputError, match=rf"^scheduler: {name} is for models trained by flow .* work: DDIMScheduler, "):
        renoise.load(tiny_sd, scheduler=name, scheduler_options=options, num_inference_steps=2)


def test_a_flow_scheduler_of_second_order_is_refused_with_the_one_to_take() -> None:
    with pytest.raises(InputError, match=r"^scheduler: FlowMatchHeun.* take FlowMatchEulerDiscreteScheduler$"):
        renoise.load(random_pipeline(), scheduler="FlowMatchHeunDiscreteScheduler", num_inference_steps=2)


@pytest.mark.parametrize("shift_type", ["exponential", "linear"])
@torch.no_grad()
def test_a_dynamic_shift_follows_the_size_as_in_the_pipeline(shift_type: str) -> None:
    pipeline = random_pipeline()
    options = {"use_dynamic_shifting": True, "time_shift_type": shift_type, "base_image_seq_len": 4}
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **options)
    loaded = renoise.load(pipeline, num_inference_steps=STEPS)
    found = []
    for start in (noise(), noise(height=4, width=12)):
        _, schedule = loaded.schedules_for(start)
        conditioning = loaded.model.encode_prompts(PROMPTS)
        expected = own_latents(pipeline, start, 1.0)
        assert torch.equal(sample(loaded.model, Inversion(start, schedule, conditioning)), expected)
        first, *_, last = (step.unshifted_timestep for step in schedule)
        assert (first, last) == pytest.approx((1000, 1), abs=1e-3)
        found.append(schedule)
    assert found[0] == loaded.schedule != found[1]


def test_an_editor_of_attention_is_refused() -> None:
    model = wrap_pipeline(random_pipeline())
    schedule = Schedule.from_scheduler(model.scheduler, 2)
    with pytest.raises(InputError, match=r"^PromptToPrompt needs attention maps, which the model's JointAttnProc"):
        check_needs(PromptToPrompt(), model, schedule)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooled_projection_dim": 24}, "takes pooled embeddings of size 24, and the CLIPs make 16"),
        ({"out_channels": 8}, "takes 4 channels and returns 8, and its autoencoder makes 4"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    pipeline = random_pipeline()
    pipeline.transformer.register_to_config(**change)
    with pytest.raises(InputError, match=rf"does not fit StableDiffusion3Pipeline: .*{message}"):
        wrap_pipeline(pipeline)
