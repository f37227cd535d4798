"""A sweep whose jobs Optuna draws: the space, the sampler and the study."""
