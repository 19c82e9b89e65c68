"""The one error of this room that a user can mend."""


class StoreError(ValueError):
    """Bad input: the message is one sentence that says what was expected, what was found, where, and what to do."""
