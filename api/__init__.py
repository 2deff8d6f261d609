"""The read side: HTTP answers over the stores, the live stream and the built page.

Routes ask the stores in a thread pool with a time limit, `series` decides which tier to read, `analytics.kpis` turns
rows into figures, `live` follows the broker and the records for every connected page.

    records, windows ──► stores (threads) ──► routes ──► JSON
    broker ──► live hub ──► one version number per client ──► SSE
"""
