"""Finds and checks the files of a checkpoint before the libraries read them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import diffusers
from diffusers import DiffusionPipeline
from safetensors import SafetensorError, safe_open

from renoise.errors import InputError

VOCABULARIES = ("tokenizer.json", "vocab.json")
"""Files that hold a tokenizer's vocabulary. One of them is enough."""
REQUIRED_PARTS = (
    *("unet", "transformer", "vae", "scheduler"),
    *("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"),
)
"""Parts that a pipeline must not lack, where its class has them."""
T5_PARTS = ("text_encoder_3", "tokenizer_3")
"""Parts of Stable Diffusion 3 that a checkpoint may lack. diffusers must be told."""
WITHOUT_WEIGHTS = ("tokenizer", "scheduler", "feature_extractor", "image_processor")
"""What the names of parts without weights begin with."""
WEIGHTS = re.compile(r"(?:diffusion_pytorch_)?model(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?\.safetensors")
"""Names of the files that diffusers and transformers read weights from."""
OTHER_WEIGHTS = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5")
NO_SUCH_VARIANT = ("Could not find the necessary `safetensors` weights", "no such modeling files are available")
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_ADVICE = "run `git lfs pull` in its folder"
CONVERT = (
    "only .safetensors files are loaded. If you trust the others, convert them once: "
    "diffusers.DiffusionPipeline.from_pretrained(OLD).save_pretrained(NEW)"
)


def omitted_parts(index: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments under which diffusers leaves out parts that are never used, whether they are there or not.

    Args:
        index: The contents of `model_index.json`.
    """
    unused = ["safety_checker"]
    if _is_null(index.get("image_encoder")) is not False:
        unused.append("feature_extractor")  # it serves these two alone
    unused += [name for name in T5_PARTS if _is_null(index.get(name))]
    arguments: dict[str, Any] = {name: None for name in unused if name in index}
    kind = getattr(diffusers, str(index.get("_class_name")), None)
    if kind is not None and "requires_safety_checker" in inspect.signature(kind.__init__).parameters:
        arguments["requires_safety_checker"] = False  # otherwise diffusers logs a note about it each time
    return arguments


def find_folder(checkpoint: str, omitted: Mapping[str, Any], only_cached: bool = False, in_half: bool = False) -> Path:
    """Returns the local folder of a checkpoint, which is downloaded where it is on the hub.

    Args:
        checkpoint: A hub id or a local folder.
        omitted: The parts that are not downloaded.
        only_cached: Whether to take what the hub's cache has, because the hub cannot be reached.
        in_half: Whether weights in half precision are preferred, which take half the time to download.

    Raises:
        InputError: A hub repository has no .safetensors files.
        OSError: The hub cannot be reached, or has no such repository.
    """
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    for variant in ("fp16", None) if in_half else (None, "fp16"):
        try:
            folder = DiffusionPipeline.download(
                checkpoint, use_safetensors=True, variant=variant, local_files_only=only_cached, **omitted
            )
            return Path(folder)
        except (OSError, ValueError) as error:  # diffusers' answers where the repository lacks the variant
            if not any(answer in str(error) for answer in NO_SUCH_VARIANT):
                raise
    raise InputError(f"checkpoint: {checkpoint} lacks .safetensors weights, and {CONVERT}")


def check_parts(
    checkpoint: str, folder: Path, index: Mapping[str, Any], omitted: Iterable[str] = (), in_half: bool = False
) -> str | None:
    """Checks the files of every part of a checkpoint, and chooses which of several variants of weights to load.

    The libraries do not always complain: without its configuration a text encoder gets random weights, and without its
    vocabulary a tokenizer knows no word. Hidden files, and weights that are not loaded, may be anything.

    Args:
        checkpoint: Its name, for the message.
        folder: Its folder.
        index: The contents of its `model_index.json`.
        omitted: Parts that are not loaded.
        in_half: Whether weights in half precision are preferred to plain ones.

    Returns:
        diffusers' `variant` of which every part has weights: None (plain), "fp16" or another, the first that there is.

    Raises:
        InputError: A part is missing, null or damaged. The message names every such part.
    """
    null = [name for name, value in index.items() if name in REQUIRED_PARTS and _is_null(value)]
    parts = [folder / name for name, value in index.items() if _is_null(value) is False and name not in omitted]
    variant = _find_variant([part for part in parts if not part.name.startswith(WITHOUT_WEIGHTS)], in_half)
    problems = {part.name: _problem(part, variant) for part in parts}
    found = [f"the part {name} is null in model_index.json, and it is needed" for name in null]
    found += [f"the part {name} {problem}" for name, problem in problems.items() if problem]
    if found:
        raise InputError(f"checkpoint: {checkpoint}: {'; '.join(found)}")
    return variant


def is_lfs_pointer(path: Path) -> bool:
    """Returns whether a file is the small text that Git LFS leaves where it did not download the contents."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def _is_null(value: Any) -> bool | None:
    """Returns whether an entry of `model_index.json` is a part without a class. None where it is no part."""
    return value[0] is None if isinstance(value, list) and value else None


def _visible_files(part: Path) -> list[Path]:
    return sorted(path for path in part.iterdir() if path.is_file() and not path.name.startswith("."))


def _weights(part: Path) -> dict[str | None, list[Path]]:
    """Returns the files of weights by their variant. None is the plain one."""
    found: dict[str | None, list[Path]] = {}
    for path in _visible_files(part) if part.is_dir() else []:
        match = WEIGHTS.fullmatch(path.name)
        if match:
            found.setdefault(match["variant"], []).append(path)
    return found


def _find_variant(parts: list[Path], in_half: bool) -> str | None:
    """Returns the variant with which every part has whole weights. diffusers takes plain ones where it is absent."""
    weights = [_weights(part) for part in parts]
    others = sorted({variant for found in weights for variant in found if variant} - {"fp16"})
    order: tuple[str | None, ...] = ("fp16", None, *others) if in_half else (None, "fp16", *others)
    for variant in order:
        chosen = [found.get(variant) or found.get(None) for found in weights]
        there = variant is None or any(variant in found for found in weights)
        if there and all(files and not any(map(is_lfs_pointer, files)) for files in chosen):
            return variant
    return None


def _problem(part: Path, variant: str | None) -> str | None:
    """Returns what is wrong with the folder of one part of a pipeline, or None."""
    if not part.is_dir():
        return "is missing"
    files = _visible_files(part)
    if not any(path.name.endswith("config.json") for path in files):
        return "has no configuration"
    if part.name.startswith("tokenizer") and not any((part / name).exists() for name in VOCABULARIES):
        return f"has no vocabulary ({' or '.join(VOCABULARIES)})"
    read = [path for path in files if path.suffix == ".json"]
    if not part.name.startswith(WITHOUT_WEIGHTS):
        weights = _weights(part)
        chosen = weights.get(variant) or weights.get(None)
        if not chosen:
            return _missing_weights(files)
        read += chosen
        unnamed = [path.name for path in part.iterdir() if "." not in path.name]
        if variant and unnamed:
            return f"contains {unnamed[0]}, at which diffusers stops where weights are a variant; move it elsewhere"
    problems = ((path, _damage(path)) for path in read)
    return next((f"has a damaged {path.name} ({problem})" for path, problem in problems if problem), None)


def _missing_weights(files: list[Path]) -> str:
    """Returns what a part has in place of weights."""
    others = [path.name for path in files if path.suffix in OTHER_WEIGHTS]
    if others:
        return f"has its weights as {others[0]}, and {CONVERT}"
    named = [path.name for path in files if path.suffix == ".safetensors"]
    found = f"; {named[0]} has another name" if named else ""
    return f"has no weights (diffusion_pytorch_model.safetensors or model.safetensors){found}"


def _damage(path: Path) -> str | None:
    """Returns why a file cannot be read, or None."""
    try:
        if is_lfs_pointer(path):
            return f"it is a Git-LFS pointer; {LFS_ADVICE}"
        if path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            if path.name.endswith("config.json") and not isinstance(content, dict):
                return "it is not a JSON object"
        else:
            with safe_open(path, "pt"):
                pass  # the header tells whether the file is complete
    except (OSError, ValueError, SafetensorError) as error:
        return str(error)
    return None
