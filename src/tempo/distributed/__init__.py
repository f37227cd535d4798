"""How the processes of a run start, meet, exchange gradients and end; one file per kind of exchange.

Nothing here knows models, data or other settings of a run.
"""
