"""The errors and warnings that are meant for the user."""

from __future__ import annotations


class InputError(ValueError):
    """A mistake in what the user gave. The command line prints it as one line, without a traceback.

    Example:
        >>> from renoise.errors import InputError
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
        >>> from renoise.errors import InputWarning
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always", InputWarning)
        ...     warnings.warn("a.png: the prompt is too long", InputWarning)
        >>> caught[0].category.__name__
        'InputWarning'
    """
