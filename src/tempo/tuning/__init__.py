"""LR range test (`range_*`) and tuning procedure: start runs, read their records and choose settings.

How a run trains belongs in `run`; many runs of one command belong in `sweep`.
"""
