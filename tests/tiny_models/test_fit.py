"""Every tiny model trains, stops and continues from its last checkpoint, with the config that made it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from transformers import CLIPModel, CLIPProcessor, ConvNextForImageClassification, ResNetForImageClassification

from renoise.data.captioner import Captioner, CaptionerConfig
from renoise.models.loading import load_model
from tiny_models.__main__ import main
from tiny_models.scenes import COLORS, SUBJECTS

CONFIGS = Path(__file__).parents[2] / "configs/tiny_models"
MODELS = Path(__file__).parents[2] / "data/models"
TINY = ["--data.init_args.scenes=6", "--data.init_args.validation_scenes=2", "--data.init_args.batch_size=2"]
TINY_PAIRS = [
    *("--data.init_args.pairs=4", "--data.init_args.validation_pairs=2", "--data.init_args.batch_size=2"),
    "--data.init_args.num_inference_steps=2",
]
SHORT = ["--trainer.max_steps=3", "--trainer.val_check_interval=1", "--trainer.log_every_n_steps=1"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
EVERY_OTHER_STEP = ["--trainer.callbacks.init_args.every_n_train_steps=2"]  # of the last callback, ModelCheckpoint


@pytest.fixture(scope="module", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Makes the working folder temporary, because the configs write below it. Lightning warns of pytest's arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["tiny_models"])
        patch.chdir(tmp_path_factory.mktemp("tiny_models"))
        yield


def fit(name: str, *overrides: str) -> None:
    main(["fit", "--config", str(CONFIGS / f"{name}.yaml"), *SHORT, *QUIET, *EVERY_OTHER_STEP, *overrides])


def fit_and_resume(name: str, output: Path, *overrides: str, size: Sequence[str] = TINY) -> None:
    """Trains three steps, then the last of them again from the checkpoint after the second."""
    overrides = (*size, *overrides)
    fit(name, *overrides)
    weights = sorted(output.rglob("*.safetensors"))
    assert weights
    before = [path.read_bytes() for path in weights]
    shutil.rmtree(output)
    checkpoint = output.parent / "checkpoints/last.ckpt"
    assert torch.load(checkpoint, weights_only=False)["global_step"] == 2
    fit(name, *overrides, "--ckpt_path", str(checkpoint))
    assert logged_steps(output.parent / "curves/version_0") == {0, 1, 2}
    assert logged_steps(output.parent / "curves/version_1") == {2}
    assert [path.stat().st_size for path in weights] == [len(content) for content in before]


def logged_steps(folder: Path) -> set[int]:
    header, *rows = (line.split(",") for line in (folder / "metrics.csv").read_text().splitlines())
    loss, step = header.index("train/loss"), header.index("step")
    return {int(row[step]) for row in rows if row[loss]}


def test_the_classifier_trains_and_resumes() -> None:
    fit_and_resume("classifier", Path("trained/classifier/model"))
    network = ResNetForImageClassification.from_pretrained("trained/classifier/model")
    assert list(network.config.id2label.values()) == [*SUBJECTS, *COLORS]


def test_the_strict_classifier_trains_and_resumes_and_keeps_its_confidence() -> None:
    fit_and_resume("strict_classifier", Path("trained/strict-classifier/model"), "--model.init_args.confidence=0.6")
    network = ConvNextForImageClassification.from_pretrained("trained/strict-classifier/model")
    assert list(network.config.id2label.values()) == [*SUBJECTS, *COLORS]
    assert network.config.confidence == 0.6


def test_the_autoencoder_and_then_tiny_sd_train_and_resume() -> None:
    fit_and_resume("autoencoder", Path("trained/autoencoder/vae"), "--data.init_args.photographs=4")
    vae = AutoencoderKL.from_pretrained("trained/autoencoder/vae")
    assert vae.config.scaling_factor not in (0.18215, 1.0)  # neither Stable Diffusion's nor the default
    fit_and_resume("tiny_sd", Path("trained/tiny-sd/pipeline"))
    pipeline = StableDiffusionPipeline.from_pretrained("trained/tiny-sd/pipeline").to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a cat on a plain red background", num_inference_steps=1).images[0]
    assert image.size == (64, 64)


def test_tiny_sdxl_trains_and_resumes_from_the_unet_of_tiny_sd() -> None:
    vae, warm_start = f"{MODELS}/tiny-sd/vae", f"{MODELS}/tiny-sd"
    output = Path("trained/tiny-sdxl/pipeline")
    places = [f"--model.init_args.vae={vae}", f"--data.init_args.vae={vae}"]
    fit_and_resume("tiny_sdxl", output, *places, f"--model.init_args.warm_start={warm_start}")
    pipeline = StableDiffusionXLPipeline.from_pretrained(output).to(torch.float32)
    start = StableDiffusionPipeline.from_pretrained(warm_start)
    weights = pipeline.unet.state_dict()
    for name, value in start.unet.state_dict().items():  # the saved average starts at step 400
        torch.testing.assert_close(weights[name], value.float())
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a cat on a plain red background", num_inference_steps=1).images[0].size == (64, 64)


def test_tiny_sd3_trains_and_resumes_with_the_text_encoders_of_tiny_sdxl_as_they_are() -> None:
    vae, text_encoders = f"{MODELS}/tiny-sd/vae", f"{MODELS}/tiny-sdxl"
    output = Path("trained/tiny-sd3/pipeline")
    places = [f"--model.init_args.vae={vae}", f"--data.init_args.vae={vae}"]
    fit_and_resume("tiny_sd3", output, *places, f"--model.init_args.text_encoders={text_encoders}")
    pipeline = load_model(str(output)).pipeline
    assert isinstance(pipeline, StableDiffusion3Pipeline)
    start = StableDiffusionXLPipeline.from_pretrained(text_encoders)
    weights = pipeline.text_encoder_2.state_dict()
    for name, value in start.text_encoder_2.state_dict().items():
        torch.testing.assert_close(weights[name], value.float())
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a cat on a plain red background", num_inference_steps=1).images[0].size == (64, 64)


def test_the_turbo_model_trains_and_resumes() -> None:
    teacher = f"{MODELS}/tiny-sdxl"
    places = [f"--model.init_args.teacher={teacher}", f"--data.init_args.teacher={teacher}"]
    output = Path("trained/tiny-sdxl-turbo/student")
    fit_and_resume("tiny_sdxl_turbo", output, *places, size=TINY_PAIRS)
    pipeline = StableDiffusionXLPipeline.from_pretrained(output)
    assert isinstance(pipeline.scheduler, EulerAncestralDiscreteScheduler)
    assert pipeline.scheduler.config.timestep_spacing == "trailing"


def test_the_lora_trains_and_resumes() -> None:
    teacher = f"{MODELS}/tiny-sd"
    places = [f"--model.init_args.teacher={teacher}", f"--data.init_args.teacher={teacher}"]
    output = Path("trained/tiny-lcm-lora/student")
    fit_and_resume("tiny_lcm_lora", output, *places, size=TINY_PAIRS)
    load_model(teacher, str(output))  # raises if the LoRA does not fit the teacher


def test_the_captioner_trains_and_resumes() -> None:
    output = Path("trained/tiny-blip2/model")
    fit_and_resume("tiny_blip2", output)
    captions = Captioner(CaptionerConfig(str(output), max_new_tokens=3))(torch.rand(2, 3, 64, 64))
    assert len(captions) == 2


def test_the_clip_trains_and_resumes() -> None:
    output = Path("trained/tiny-clip/model")
    fit_and_resume("tiny_clip", output)
    inputs = CLIPProcessor.from_pretrained(output)(
        images=[torch.zeros(3, 64, 64, dtype=torch.uint8)], text=["a cat"], return_tensors="pt"
    )
    assert CLIPModel.from_pretrained(output, dtype=torch.float32)(**inputs).logits_per_image.shape == (1, 1)


def test_fit_is_the_only_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["validate"])
    assert "invalid choice: 'validate'" in capsys.readouterr().err
