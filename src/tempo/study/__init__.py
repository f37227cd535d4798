"""What needs many runs: range test, procedure, scaling."""
