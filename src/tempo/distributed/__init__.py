"""Start, connect and end the processes of a run, and exchange gradients; one file per kind of exchange.

This package knows nothing of models, data or other settings of a run.
"""
