"""Learning rate and momentum as pure functions of the step."""
