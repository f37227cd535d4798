"""Many runs of one command: the grid, its jobs and their folders. Does not import torch.

`launcher/` is about where jobs run, `search/` about jobs that Optuna draws; what one run does is in run/.
"""
