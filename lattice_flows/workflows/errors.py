"""The one kind of error that is the user's to mend."""


class InputError(ValueError):
    """What a person gave does not fit. The message is one line: what, where, and what would be right."""
