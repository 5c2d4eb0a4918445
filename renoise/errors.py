"""The errors and warnings that are meant for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A mistake in what the user gave. The command line prints it as one line, without a traceback.

    Example:
        >>> from renoise import InputError
        >>> try:
        ...     raise InputError("batch_size must be 1 or more, got 0")
        ... except ValueError as error:
        ...     print(error)
        batch_size must be 1 or more, got 0
    """


class InputWarning(UserWarning):
    """Something in the input that the user should know about. The run continues.

    Example:
        >>> import warnings
        >>> from renoise import InputWarning
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always", InputWarning)
        ...     warnings.warn("a.png: the prompt is too long", InputWarning)
        >>> caught[0].category.__name__
        'InputWarning'
    """


@contextmanager
def prefixed(prefix: str, kind: type[ValueError] = InputError) -> Iterator[None]:
    """Puts a prefix, such as the name of an option, before the message of an error that is raised inside the block.

    Args:
        prefix: What the message begins with.
        kind: The errors that it is put before. They become `InputError`.

    Example:
        >>> from renoise.errors import InputError, prefixed
        >>> try:
        ...     with prefixed("data."):
        ...         raise InputError("batch_size must be 1 or more, got 0")
        ... except InputError as error:
        ...     print(error)
        data.batch_size must be 1 or more, got 0
    """
    try:
        yield
    except kind as error:
        raise InputError(f"{prefix}{error}") from error
