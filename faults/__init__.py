"""The fault catalogue: break one thing at a time on real parts and count, against the publisher's own ledger.

    publisher ──► broker ──► ingest (a process of its own) ──► journal, store
        │            ▲                ▲                            │
        └─ ledger    └──── fault ─────┘                            │
             └──────────────► verifier ◄───────────────────────────┘

The oracle is the publisher's ledger of what the broker acknowledged; nothing of the product takes part in it.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The root of the checkout."""

# The catalogue runs on the same real brokers and databases as the tests, started by the same code.
sys.path.append(str(ROOT / "tests"))
