"""The plots of the documentation: drawn by the command that it names, and shown where they are described."""

import re
from pathlib import Path

from simulators.plots import main


def test_every_plot_of_the_document_is_drawn_by_the_command_and_is_there(tmp_path: Path, root: Path) -> None:
    files = main(tmp_path)
    shown = re.findall(r"!\[[^\]]+\]\((simulator-[a-z-]+\.png)\)", (root / "docs" / "simulator.md").read_text())
    assert [file.name for file in files] == shown
    for file in files:
        drawn = file.read_bytes()
        assert drawn.startswith(b"\x89PNG")
        assert len(drawn) > 20_000
        assert (root / "docs" / file.name).exists()


def test_the_same_port_draws_the_same_picture(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for one, two in zip(main(tmp_path / "one"), main(tmp_path / "two"), strict=True):
        assert one.read_bytes() == two.read_bytes()
