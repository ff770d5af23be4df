"""Telemetry of agents (OTLP) at the captain: what they report is cleaned first, then stored, shown and forwarded.

::

    captain's loop                a thread of the sink                              others
    ──────────────                ────────────────────                              ──────
    Batch ──put──> queue ──> decode ──> clean ──> count ──> store (telemetry.db) ──> status, watch  (sums alone)
             (bounded; what                                        │ ├────────────> export           (lines of JSON)
              has no room is counted)                              │ └──forwarder──> any collector   (retried)
                                         ledger ──> spans ─────────┘

    batch.py      one OTLP call of an agent, and where it goes
    parts.py      bytes ──> Malformed if they have more parts than may be decoded
    decode.py     bytes ──> a message of opentelemetry-proto, or Malformed
    mask.py       texts: which are content (dropped), which hold a credential (masked)
    clean.py      a message without either, with voyage, ship, task and attempt on each resource
    usage.py      a message ──> tokens and calls of tools
    store.py      telemetry.db: cleaned messages, sums, what was lost
    sink.py       the queue and its thread
    spans.py      the voyage's own spans, from rows of its ledger
    export.py     stored messages ──> OTLP's lines of JSON
    forward.py    stored messages ──> a collector
    configured.py which collector and which secrets are configured
    receiver.py   a receiver on this machine's loopback, without a voyage

Nothing else sees what an agent sent: only :mod:`.decode` and :mod:`.clean` hold it as it was.

``opentelemetry-proto`` takes longer to import than most commands take, so only what runs in the sink's thread, in an
export or in the receiver does so; sums are read with ``sqlite3`` alone.
"""
