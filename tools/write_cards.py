"""Generator of the model cards: one card for each shipped model, from the metadata of its files.

python -m tools.write_cards
"""

from pathlib import Path

from edgepose_export.make_model.card import card, files_by_model
from edgepose_export.network.checkpoint import load_deployed

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "edgepose" / "assets"
CHECKPOINTS = ROOT / "export" / "edgepose_export" / "checkpoints"


def main() -> None:
    """Write all cards."""
    for name, files in files_by_model(ASSETS).items():
        path = ASSETS / f"{name}.md"
        path.write_text(card(name, files, load_deployed(CHECKPOINTS / f"{name}.pt")), encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
