"""How a suite of inversions and editing methods is described, and its parts made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from omegaconf import OmegaConf
from renoise.inversion.methods import InversionMethod, make_inverter

from benchmarks.evaluation import images_of
from renoise.core.edit_regularization import EditRegularization
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import AveragingWeights, Renoising
from renoise.core.schedule import Schedule
from renoise.editing.base import Editor, load_editors
from renoise.errors import InputError
from renoise.inversion.base import Inversion
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model
from renoise.models.schedulers import replace_scheduler
from tiny_models.scenes import Scene

EDITS = Path("configs/edits")
GUIDANCE = (1.0, 1.5, 2.0, 3.0)
"""Of the edit, as every pair is swept over it."""


@dataclass(frozen=True)
class InversionSetting:
    """One way to invert, under the scenes' captions.

    Args:
        method: see `make_inverter`, as for all that follows.
        iterations: K of `renoise`.
        averaging_weights: of its estimates.
        edit_losses: of its predictions.
        noise_correction: of samplers that draw noise.
        guidance_scale: during inversion.
        per_guidance: whether scenes are inverted anew at the guidance of every edit but 1, which null-text inversion
            cannot do; where not, one inversion serves all edits.
    """

    method: InversionMethod
    iterations: int = 0
    averaging_weights: AveragingWeights | None = None
    edit_losses: EditRegularization | None = None
    noise_correction: NoiseCorrection = field(default_factory=NoiseCorrection)
    guidance_scale: float = 1.0
    per_guidance: bool = False

    def at(self, guidance_scale: float) -> InversionSetting | None:
        """The setting that serves an edit of some guidance; None where there is none."""
        if not self.per_guidance:
            return self
        return None if guidance_scale == 1 else replace(self, guidance_scale=guidance_scale)

    def invert(self, model: DiffusionModel, schedule: Schedule, scenes: Sequence[Scene]) -> Inversion:
        """The inversion of scenes, side by side, with the latents of every level."""
        renoising = Renoising(self.iterations, self.averaging_weights)
        inverter = make_inverter(
            self.method,
            model,
            schedule,
            renoising,
            self.edit_losses,
            self.noise_correction,
            seed=0,
            keep_trajectory=True,
            guidance_scale=self.guidance_scale,
        )
        latents = model.encode_images(images_of(scenes).to(model.device, model.state_dtype))
        conditioning = model.encode_prompts([scene.caption for scene in scenes], self.guidance_scale)
        return inverter.invert(latents, conditioning, [str(row) for row in range(len(scenes))])


@dataclass(frozen=True)
class EditorSetting:
    """An editing method and what it is made with, but for its guidance.

    Args:
        class_name: of an installed editor.
        init_args: its options.
        inversions: names of those to measure it on; None is all. Some come to the same: direct inversion is plain
            reversal to an editor that never samples the image.
    """

    class_name: str
    init_args: Mapping[str, Any] = field(default_factory=dict)
    inversions: tuple[str, ...] | None = None

    @classmethod
    def read(
        cls, name: str, overrides: Mapping[str, Any], inversions: tuple[str, ...] | None, folder: Path = EDITS
    ) -> EditorSetting:
        """The one editor of a configuration, with some of its options replaced.

        Raises:
            InputError: the configuration has another number of editors.
        """
        path = folder / f"{name}.yaml"
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        assert isinstance(content, dict)
        editors = content["model"].get("editors") or []
        if len(editors) != 1:
            raise InputError(f"{path} must have one of model.editors to be measured, got {len(editors)}")
        init_args = {**editors[0].get("init_args", {}), **overrides}
        return cls(editors[0]["class_path"], init_args, inversions)

    def make(self, guidance_scale: float) -> Editor:
        """The editor at some guidance.

        Raises:
            InputError: no such editor is installed.
        """
        editors = load_editors()
        if self.class_name not in editors:
            raise InputError(f"there is no editor {self.class_name!r}; there are {', '.join(sorted(editors))}")
        kind = editors[self.class_name]
        chosen = {
            "class_path": f"{kind.__module__}.{kind.__qualname__}",
            "init_args": {**self.init_args, "guidance_scale": guidance_scale},
        }
        parser = ArgumentParser(exit_on_error=False)  # reads options as the command line does, paths among them
        parser.add_argument("--editor", type=Editor)
        editor: Editor = parser.instantiate(parser.parse_object({"editor": chosen})).editor
        return editor


@dataclass(frozen=True)
class PresetEditor:
    """The editor of one of configs/edits, read when it is measured.

    Args:
        name: of the file, without its ending.
        overrides: options that differ from the file's.
        inversions: see `EditorSetting`.
    """

    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    inversions: tuple[str, ...] | None = None

    def setting(self) -> EditorSetting:
        """What the file says."""
        return EditorSetting.read(self.name, self.overrides, self.inversions)


@dataclass(frozen=True)
class Suite:
    """One model under one sampler, and what is compared on it: every inversion with every editor.

    Args:
        name: of its block in the page and of its figure.
        checkpoint: folder of the model.
        scheduler: class name of the sampler.
        num_inference_steps: of the sampler.
        inversions: by the name that the tables show.
        editors: likewise.
        scheduler_options: of the sampler, where they differ from the checkpoint's.
        eta: DDIM's η.
    """

    name: str
    checkpoint: str
    scheduler: str
    num_inference_steps: int
    inversions: Mapping[str, InversionSetting]
    editors: Mapping[str, EditorSetting | PresetEditor]
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)
    eta: float = 0.0

    @property
    def sampler(self) -> list[Any]:
        """What its sampler is, for the keys of kept rows."""
        return [self.scheduler, dict(self.scheduler_options), self.num_inference_steps, self.eta]

    def editor_settings(self) -> dict[str, EditorSetting]:
        """Every editor's setting, those of configs/edits read."""
        settings = self.editors.items()
        return {name: each.setting() if isinstance(each, PresetEditor) else each for name, each in settings}

    def load(self) -> tuple[DiffusionModel, Schedule]:
        """The model and its sampler's steps."""
        model = load_model(self.checkpoint)
        sampler = replace_scheduler(model.scheduler, self.scheduler, self.scheduler_options)
        return model, Schedule.from_scheduler(sampler, self.num_inference_steps, self.eta)
