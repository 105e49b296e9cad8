"""Breaks everything that sending stands on, and holds what the report says against what the mail server got.

    python -m bench.chaos [--readers N] [--kills N] [--only FAULT …]

    servers    PostgreSQL, Redis, mail server, workers and beats of one run: begun, stopped, killed
    sends      one issue on its way to readers of its own
    verdict    the mail server's journal against the report: who is lost, who got it twice, which doubt is not named
    faults     what goes wrong, one function for each

A named database is never touched: what is killed here is started here.
"""
