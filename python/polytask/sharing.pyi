"""The `sharing` components; written by `python -m polytask._stubs`."""

from .component import Component

class Hard(Component):
    """Hard parameter sharing (Caruana, ICML 1993; Machine Learning 28, 1997): one encoder, one head per task."""

    def __init__(self) -> None: ...
