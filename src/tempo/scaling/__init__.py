"""Images per second over workers and methods: measured, emulated, predicted."""
