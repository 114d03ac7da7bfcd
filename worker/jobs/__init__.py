"""What a job does: which files, how each one is hashed, what the platform is told. No queue is known here."""
