"""The exception for users' mistakes."""


class InputError(ValueError):
    """Report a mistake of the user in one sentence: what is wrong, in which file or parameter, and the remedy.

    Notebooks show that sentence alone: a traceback would only hide it.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"InputError: {self}"]
