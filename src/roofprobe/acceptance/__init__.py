"""Verdicts on a unit and a cluster: what was measured against the limits of its platform."""
