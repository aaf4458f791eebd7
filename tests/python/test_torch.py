"""`import polytask` loads the extension for the torch that is installed, and says in one line if there is none."""

import subprocess
import sys
from pathlib import Path

import polytask as pt
import pytest
import torch

PACKAGE = Path(pt.__file__).parent
BUILT = Path(pt._core.__file__)


@pytest.fixture
def beside(tmp_path):
    """Runs lines in a process whose package holds extensions of those names and no others."""

    def run(*extensions: str, lines: str, content: Path = BUILT) -> subprocess.CompletedProcess[str]:
        package = tmp_path / "polytask"
        package.mkdir()
        for path in PACKAGE.iterdir():
            if path.suffix != ".so" and path.name != "__pycache__":
                (package / path.name).symlink_to(path)
        for name in extensions:
            (package / name).symlink_to(content)
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{lines}"]
        return subprocess.run(command, capture_output=True, text=True)

    return run


def extension(minor: str) -> str:
    return f"_core_torch{minor.replace('.', '')}.abi3.so"


def only_line(ran: subprocess.CompletedProcess[str]) -> str:
    """What `except ImportError` printed."""
    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stdout.splitlines()
    return line


MINOR = ".".join(torch.__version__.split(".")[:2])
NAMED = "import polytask; print(polytask._core.__name__, polytask._core.__file__)"
SAID = "try:\n    import polytask\nexcept ImportError as error:\n    print(error)"


def test_the_extension_for_this_torch_is_loaded(beside, tmp_path):
    line = only_line(beside(extension("2.0"), extension(MINOR), extension("9.9"), lines=NAMED))
    assert line == f"polytask._core {tmp_path / 'polytask' / extension(MINOR)}"


def test_one_that_was_built_in_place_comes_first(beside, tmp_path):
    line = only_line(beside("_core.abi3.so", extension(MINOR), lines=NAMED))
    assert line == f"polytask._core {tmp_path / 'polytask' / '_core.abi3.so'}"


def test_another_torch_is_told_which_ones_there_are_extensions_for(beside):
    line = only_line(beside(extension("9.10"), extension("9.9"), lines=SAID))
    assert line == f"polytask needs torch 9.9 or 9.10, found torch {torch.__version__}"


def test_no_extension_at_all_is_said_too(beside):
    line = only_line(beside(lines=SAID))
    assert line.endswith(f", found torch {torch.__version__}")


def test_one_built_in_place_for_another_torch_is_named(beside, tmp_path):
    other = "import torch; torch.__version__ = '9.9.0+cpu'\n"
    line = only_line(beside("_core.abi3.so", lines=other + SAID))
    place = tmp_path / "polytask" / "_core.abi3.so"
    assert line == f"{place} was built for torch {pt._core.torch_version}, found torch 9.9.0+cpu"


def test_one_that_cannot_be_loaded_is_named_with_the_reason(beside, tmp_path):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    line = only_line(beside(extension(MINOR), lines=SAID, content=broken))
    place = tmp_path / "polytask" / extension(MINOR)
    assert line.startswith(f"{place} was built for another torch than {torch.__version__} (")
    assert line.endswith(")")
