"""The LR range test and the tuning procedure, which start runs and read their records."""
