"""Images per second against the number of workers: measured, emulated and predicted points, and their report.

A measured point is an ordinary run (`tempo.run`); how gradients are exchanged is in `tempo.distributed`.
"""
