"""Type stubs of the component namespaces, written from the registry: `python -m polytask._stubs`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .components import component, own_module
from .components.component import Component
from .components.literal import literal
from .components.registry import BASES, OWN, REGISTRY


def render() -> dict[str, str]:
    """The text of each stub by its file's name."""
    families = dict.fromkeys(info["family"] for info in REGISTRY)
    return {
        f"{family}.pyi": _module(family, [each for each in REGISTRY if each["family"] == family]) for family in families
    }


def write(folder: Path) -> None:
    """Writes all stubs."""
    for name, text in render().items():
        (folder / name).write_text(text, encoding="utf-8")


def _module(family: str, infos: Iterable[dict[str, Any]]) -> str:
    classes = [_class(info) for info in infos]
    used = [name for name in ("Mapping", "Sequence") if any(f"{name}[" in text for text in classes)]
    lines = [f'"""The `{family}` components; written by `python -m polytask._stubs`."""', ""]
    lines += [f"from collections.abc import {', '.join(used)}"] if used else []
    lines += ["from typing import Any"] if any("Any" in text for text in classes) else []
    lines += [""] if len(lines) > 2 else []
    base = _base(family)
    # The class calls itself `polytask.Component`, where a stub does not look, being below.
    module = (component.__name__ if base is Component else base.__module__).removeprefix(__package__)
    lines += [f"from {module} import {base.__name__}"]
    if family in OWN:
        # It calls itself `Torch`; its file knows it by another name.
        name = next(name for name, each in vars(own_module).items() if each is OWN[family])
        lines += [f"from {own_module.__name__.removeprefix(__package__)} import {name}"]
        classes.append(f"Torch = {name}\n")
    return "\n".join([*lines, "", *classes])


def _base(family: str) -> type[Component]:
    return BASES.get(family, Component)


def _class(info: dict[str, Any]) -> str:
    parameters = info["parameters"]
    lines = [f"class {info['class']}({_base(info['family']).__name__}):", *_docstring(info["doc"])]
    lines += [f"    {each['name']}: {each['python']}" for each in parameters]
    arguments = [f"        {each['name']}: {each['python']} = {literal(each['default'])}," for each in parameters]
    if arguments:
        lines += ["    def __init__(", "        self,", *arguments, "    ) -> None: ..."]
    else:
        lines += ["    def __init__(self) -> None: ..."]
    return "\n".join(lines) + "\n"


def _docstring(doc: str) -> list[str]:
    first, *rest = doc.replace("\\", "\\\\").splitlines()
    if not rest:
        return [f'    """{first}"""', ""]
    return [f'    """{first}', *(f"    {line}".rstrip() for line in rest), '    """', ""]


if __name__ == "__main__":
    write(Path(__file__).parent)
