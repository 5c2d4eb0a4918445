"""Asks the Hugging Face hub for a repository before a library does, which would wait and try again for long."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import Future
from threading import Thread
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from renoise.errors import InputError, InputWarning
from renoise.utils.progress import report

TIMEOUT = 5.0
"""Seconds that the hub has to answer."""
NETWORK_ERRORS: tuple[type[Any], ...] = HfHubHTTPError.__bases__
"""What no answer, or that of a broken server, raises: the base of all errors of the hub's HTTP client, and OSError."""


def check_hub(source: str, file: str, option: str) -> bool:
    """Checks that what is no local path is a repository of the hub, and that it can be loaded.

    Args:
        source: A path or a hub id.
        file: A file that the repository must have.
        option: What the message begins with.

    Returns:
        Whether the hub cannot be asked, and the copy in its cache must be loaded: `local_files_only`. False for a path.

    Raises:
        InputError: The path does not exist, and there is no such repository, or the hub cannot be reached and its cache
            has no copy. The message says which.

    Example:
        >>> from renoise.utils.hub import check_hub
        >>> check_hub("data/models/tiny-sd", "model_index.json", "checkpoint")
        False
    """
    if os.path.exists(source):
        return False
    found = f"{option}: {source}: no such file or folder here"
    try:
        url = hf_hub_url(source, file)
    except HFValidationError:
        raise InputError(f"{found}, and not the name of a repository on the hub, which is OWNER/NAME") from None
    try:
        _ask(url)
    except GatedRepoError:
        page = f"{constants.ENDPOINT}/{source}"
        raise InputError(f"{option}: {source}: accept its conditions on {page}, then run `hf auth login`") from None
    except RepositoryNotFoundError:
        advice = "if it is private, run `hf auth login`"
        raise InputError(f"{found}, and no such repository on the hub, {constants.ENDPOINT}; {advice}") from None
    except EntryNotFoundError:
        raise InputError(f"{option}: {source}: the repository on the hub has no {file}") from None
    except OfflineModeIsEnabled:
        problem = "the hub is not asked in offline mode (HF_HUB_OFFLINE)"
    except NETWORK_ERRORS as error:
        reason = " ".join(str(error).split()) or f"no answer in {TIMEOUT:.0f} seconds"
        problem = f"the hub, {constants.ENDPOINT}, cannot be reached ({reason})"
    else:
        report(f"{option}: {source} is a repository of the hub, {constants.ENDPOINT}")
        return False
    if not isinstance(try_to_load_from_cache(source, file), str):
        raise InputError(f"{found}, not in the hub's cache either, and {problem}")
    if not constants.is_offline_mode():
        warnings.warn(f"{option}: {problem}; {source} is loaded from its cache", InputWarning, stacklevel=2)
    return True


def is_at_hand(source: str) -> bool:
    """Returns whether a model is on this machine: a path, or a repository whose weights are in the hub's cache.

    Args:
        source: A path or a hub id of a model in transformers layout.

    Example:
        >>> from renoise.utils.hub import is_at_hand
        >>> is_at_hand("data/models/tiny-blip2")
        True
    """
    weights = ("model.safetensors", "model.safetensors.index.json")
    return os.path.exists(source) or any(isinstance(try_to_load_from_cache(source, file), str) for file in weights)


def _ask(url: str) -> None:
    """Asks for a file's metadata once. Raises TimeoutError after `TIMEOUT`, also where the name server is silent."""
    answer: Future[None] = Future()

    def ask() -> None:
        try:
            get_hf_file_metadata(url, timeout=TIMEOUT)
        except Exception as error:  # raised again in the thread that waits
            answer.set_exception(error)
        else:
            answer.set_result(None)

    Thread(target=ask, daemon=True).start()
    answer.result(TIMEOUT)
