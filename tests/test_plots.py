"""The plots of the documentation: drawn by the command that it names, and shown where they are described."""

import re
from pathlib import Path

from simulators.plots import main


def test_the_command_draws_the_plots_of_the_document_and_the_same_port_draws_the_same(
    tmp_path: Path, root: Path
) -> None:
    (tmp_path / "again").mkdir()
    files, again = main(tmp_path), main(tmp_path / "again")
    shown = re.findall(r"!\[[^\]]+\]\((simulator-[a-z-]+\.png)\)", (root / "docs" / "simulator.md").read_text())
    assert [file.name for file in files] == shown
    for one, two in zip(files, again, strict=True):
        drawn = one.read_bytes()
        assert drawn.startswith(b"\x89PNG")
        assert len(drawn) > 20_000
        assert two.read_bytes() == drawn
        assert (root / "docs" / one.name).exists()
