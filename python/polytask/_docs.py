"""The page of all components, written from the registry: `python -m polytask._docs`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .components.literal import literal
from .components.registry import REGISTRY

#: The families in the order of the page, with a title.
_FAMILIES = {
    "weighting": "Weightings",
    "encoder": "Encoders",
    "sharing": "Sharing schemes",
    "head": "Heads",
    "loss": "Losses",
    "regularizer": "Regularizers",
    "optim": "Optimizers",
    "schedule": "Schedules",
}
_NEEDS = {"losses": "losses", "gramian": "Gramian", "jacobian": "gradients"}
_INTRODUCTION = """# Components

Written from the registry by `make methods`. Each component is a class of its family's namespace,
`pt.weighting.Equal()`, or its name as a string, `"equal"`.
"""
_WEIGHTINGS = """\
A weighting decides how the tasks of a batch share a step. *Needs* says what it looks at: nothing; the losses; the
Gramian `[tasks, tasks]` of the tasks' gradients at the shared parameters; or the gradients themselves. The last
two take a backward pass for each task. *Acts like* says how long the combined gradient is when tasks agree: as the
sum of the tasks' gradients, as their mean, or neither (*own*), which matters for the learning rate.
"""


def render() -> str:
    """The text of the page."""
    families = dict.fromkeys([*_FAMILIES, *(info["family"] for info in REGISTRY)])
    return "\n".join([_INTRODUCTION, *(_family(name, _FAMILIES.get(name, name)) for name in families)]).rstrip() + "\n"


def write(folder: Path) -> None:
    """Writes the page."""
    (folder / "methods.md").write_text(render(), encoding="utf-8")


def _family(family: str, title: str) -> str:
    infos = [each for each in REGISTRY if each["family"] == family]
    lines = [f"## {title}", ""]
    if family == "weighting":
        lines += [_WEIGHTINGS, *_weightings(infos)]
    else:
        lines += _table(["name", "class", ""], ([f'`"{each["name"]}"`', _link(each), _first(each)] for each in infos))
    for info in infos:
        lines += ["", *_component(info)]
    return "\n".join([*lines, ""])


def _weightings(infos: Sequence[dict[str, Any]]) -> list[str]:
    def row(info: dict[str, Any]) -> list[str]:
        return [f'`"{info["name"]}"`', _link(info), _needs(info["traits"]), info["traits"]["acts_like"], _first(info)]

    lines = _table(["name", "class", "needs", "acts like", ""], map(row, infos))
    example = next((each for each in infos if each["traits"]["modes"]), None)
    if example is not None:
        modes = [each for each in example["parameters"] if each["name"] in example["traits"]["modes"]]
        lines += ["", "Every weighting from gradients also has these arguments:", "", *_arguments(modes)]
    return lines


def _needs(traits: dict[str, Any]) -> str:
    more = [
        f"of {traits['parts']} parts of the batch" if traits["parts"] > 1 else "",
        "losses after the step" if traits["looks_back"] else "",
        "validation data" if traits["validates"] else "",
    ]
    return ", ".join([_NEEDS[traits["needs"]] if traits["looks"] else "nothing", *filter(None, more)])


def _component(info: dict[str, Any]) -> list[str]:
    modes = info.get("traits", {}).get("modes", ())
    own = [each for each in info["parameters"] if each["name"] not in modes]
    arguments = ", ".join(
        [*(f"{each['name']}={literal(each['default'])}" for each in own), *(["..."] if modes else [])]
    )
    lines = [f"### {info['class']}", "", f"`pt.{info['family']}.{info['class']}({arguments})`", "", info["doc"]]
    return [*lines, "", *_arguments(own)] if own else lines


def _arguments(parameters: Iterable[dict[str, Any]]) -> list[str]:
    return [f"- `{each['name']}`, by default `{literal(each['default'])}`: {each['doc']}" for each in parameters]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def _link(info: dict[str, Any]) -> str:
    return f"[{info['class']}](#{info['class'].lower()})"


def _first(info: dict[str, Any]) -> str:
    """The first paragraph of the documentation on one line, without the formula behind the paper."""
    paragraph = " ".join(str(info["doc"]).split("\n\n")[0].split())
    name, paper, formula = paragraph.partition("): ")
    return f"{name})." if paper and formula else paragraph


if __name__ == "__main__":
    write(Path(__file__).resolve().parents[2] / "docs")
