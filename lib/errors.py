"""The one error that a user's mistake raises."""


class InputError(ValueError):
    """Say in one sentence what is wrong, with which file or parameter, and what to do next.

    In a notebook it is shown as that sentence alone: a traceback would only hide it.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"InputError: {self}"]
