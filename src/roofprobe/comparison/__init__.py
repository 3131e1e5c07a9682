"""What changed between two runs, by a rule that knows how much the machine itself wanders."""
