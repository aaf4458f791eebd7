"""Names of columns that training data had where nothing else names them: whatever comes later is read by them."""

from ..arguments.messages import listed


class Names:
    """By place: `x`, a part of it, or the targets of a task."""

    def __init__(self, known: dict[str, list[str]] | None = None) -> None:
        self.known = dict(known or {})

    def select(self, place: str, have: list[str], argument: str) -> list[str]:
        """The columns to read, in order: those that were learned, else those at hand.

        Raises:
            ValueError: a column of the training data is not among those at hand.
        """
        known = self.known.get(place, have)
        missing = [name for name in known if name not in have]
        if missing:
            raise ValueError(f"{argument} lacks the columns {listed(missing)}, by whose names the model was trained")
        return known

    def learn(self, place: str, names: list[str]) -> None:
        """Remembers the names of training data, if there were none yet."""
        self.known.setdefault(place, names)

    def describe(self) -> dict[str, list[str]]:
        """All of it as JSON has it."""
        return dict(self.known)
