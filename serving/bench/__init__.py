"""Load for a running server, and what it made of it: the generator behind `ledgate bench`.

    schedule, payloads ─▶ load ─▶ loop ─▶ unary or streams ─▶ the server
                                   │                              │
             report ◀─ outcome ◀─ tally ◀──────── answers ◀───────┘

A call is counted once, as it ended: nothing is tried again. Requests are built before the clock runs.
"""
