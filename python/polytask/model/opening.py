"""Files of models and folders of ensembles, whichever it is."""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ..arguments.keywords import checked
from ..arguments.paths import file_path
from ..components.own_module import Given
from .ensemble import Ensemble
from .model import MultiTaskModel


@checked
def load(
    path: str | PathLike[str],
    losses: Mapping[str, Callable[..., Any]] | None = None,
    encoder: Given | None = None,
    heads: Mapping[str, Given] | Given | None = None,
) -> MultiTaskModel | Ensemble:
    """What `save` wrote: the model of a file, or the ensemble of a folder.

    Arguments:
        path: of the file or the folder.
        losses, encoder, heads: as for `pt.MultiTaskModel.load`; models of an ensemble have those of their tasks.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is no model, or not a complete one.
    """
    path = file_path(path)
    kind = Ensemble if Path(path).is_dir() else MultiTaskModel
    return kind.load(path, losses=losses, encoder=encoder, heads=heads)
