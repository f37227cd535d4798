"""Many runs of one command: the grid, the jobs and their folder.

Launchers and searches have rooms of their own within. It does not import torch.
"""
