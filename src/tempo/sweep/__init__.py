"""Many runs of one command: the grid, its jobs and their folders. Does not import torch.

`launcher/` decides where jobs run, and `search/` lets Optuna draw them; a single run is trained by run/.
"""
